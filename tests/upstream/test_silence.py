from __future__ import annotations

import pytest

from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.silence import Phase, TrailingSilence


def rule(*, needs_silence: bool = True, enabled: bool = True) -> TrailingSilence:
    return TrailingSilence(LinkPolicy(), needs_silence=needs_silence, enabled=enabled)


def recorder(silence: TrailingSilence, gap_s: float, count: int, start: float = 100.0) -> float:
    """Chunks at a steady pace; returns when the last one came."""
    for number in range(count):
        silence.audio(start + number * gap_s, gap_s)
    return start + (count - 1) * gap_s


def drain(silence: TrailingSilence, now: float) -> list[tuple[float, float | None]]:
    """What is sent, and when, if nobody says anything more."""
    sent = []
    while (due_in := silence.due_in(now)) is not None:
        now += due_in
        sent.append((now, silence.take(now)))
    return sent


def test_nothing_is_due_before_there_was_audio() -> None:
    assert rule().due_in(100.0) is None


@pytest.mark.parametrize(
    ("gap_s", "count", "patience_s"),
    [
        (0.25, 1, 2.5),  # no gap is known yet
        (0.25, 8, 1.5),
        (0.02, 50, 2.5),  # pieces of one chunk are no gaps
        (1.0, 5, 2.0),
        (3.0, 4, 6.0),
        (3.0, 1, 6.0),  # a chunk of three seconds: the next one is three seconds away
        (60.0, 1, 2.5),  # a file
    ],
)
def test_a_stream_is_over_when_it_was_quiet_for_twice_its_longest_gap(
    gap_s: float, count: int, patience_s: float
) -> None:
    silence = rule()
    last = recorder(silence, gap_s, count)
    assert silence.due_in(last) == pytest.approx(patience_s)


def test_silence_never_comes_between_the_chunks_of_a_running_recorder() -> None:
    for gap_s in (0.1, 0.25, 1.0, 2.0, 3.0, 5.0):
        silence = rule()
        for number in range(20):
            silence.audio(100.0 + number * gap_s, gap_s)
            due_in = silence.due_in(100.0 + number * gap_s)
            assert due_in is not None
            assert due_in > gap_s * 1.2


def test_trailing_silence_comes_in_real_time_and_ends_after_three_seconds() -> None:
    silence = rule()
    last = recorder(silence, 0.25, 4)
    sent = drain(silence, last)
    pieces = [piece for _, piece in sent[:-1]]
    assert pieces == pytest.approx([0.1] * 30)
    assert sent[0][0] == pytest.approx(last + 1.5)
    assert sent[-2][0] == pytest.approx(last + 1.5 + 2.9)
    assert sent[-1][1] is None
    assert silence.phase is Phase.IDLE


def test_the_first_second_after_an_end_of_stream_comes_at_once() -> None:
    silence = rule()
    last = recorder(silence, 0.25, 4)
    silence.end_of_stream(last)
    sent = drain(silence, last)
    assert sum(piece or 0.0 for at, piece in sent if at < last + 0.05) == pytest.approx(1.1)
    assert sum(piece or 0.0 for _, piece in sent) == pytest.approx(3.0)


def test_a_turn_that_completes_ends_the_silence() -> None:
    silence = rule()
    silence.end_of_stream(recorder(silence, 0.25, 4))
    silence.take(101.0)
    silence.turn_complete()
    assert silence.due_in(102.0) is None


def test_a_turn_that_completes_while_the_recorder_runs_does_not_forget_its_end() -> None:
    silence = rule()
    last = recorder(silence, 0.25, 4)
    silence.turn_complete()
    assert silence.due_in(last) == pytest.approx(1.5)


def test_real_audio_ends_the_silence_and_begins_a_new_stream() -> None:
    silence = rule()
    last = recorder(silence, 0.25, 4)
    silence.take(last + 1.5)
    silence.audio(last + 2.0, 0.25)
    assert silence.phase is Phase.RUNNING
    assert silence.due_in(last + 2.0) == pytest.approx(2.5)


def test_a_pause_between_two_recordings_is_no_gap_of_a_recorder() -> None:
    silence = rule()
    last = recorder(silence, 0.25, 4)
    again = recorder(silence, 0.25, 4, start=last + 20.0)
    assert silence.due_in(again) == pytest.approx(1.5)


def test_an_end_of_stream_with_nothing_to_end_is_nothing() -> None:
    silence = rule()
    silence.end_of_stream(100.0)
    assert silence.due_in(100.0) is None
    silence.end_of_stream(recorder(silence, 0.25, 4))
    drain(silence, 101.0)
    silence.end_of_stream(110.0)
    assert silence.due_in(110.0) is None


def test_a_model_that_needs_no_trailing_audio_gets_the_stream_end_alone() -> None:
    silence = rule(needs_silence=False)
    last = recorder(silence, 0.25, 4)
    [(at, piece)] = drain(silence, last)
    assert (at, piece) == (pytest.approx(last + 1.5), None)


def test_a_client_that_marks_its_turns_gets_no_silence() -> None:
    silence = rule(enabled=False)
    silence.end_of_stream(recorder(silence, 0.25, 4))
    silence.heard_again(102.0)
    assert silence.due_in(110.0) is None


def test_a_turn_that_is_said_again_on_a_new_connection_is_ended_again() -> None:
    silence = rule()
    drain(silence, recorder(silence, 0.25, 4))
    silence.heard_again(120.0)
    assert silence.due_in(120.0) == 0.0
    assert sum(piece or 0.0 for _, piece in drain(silence, 120.0)) == pytest.approx(3.0)


def test_a_running_recorder_is_not_ended_because_its_turn_is_said_again() -> None:
    silence = rule()
    last = recorder(silence, 0.25, 4)
    silence.heard_again(last)
    assert silence.due_in(last) == pytest.approx(1.5)
