"""When the user spoke: by how loud the audio was, not by when its words came."""

from __future__ import annotations

import pytest

from tornado_live.sessions.speech import SpeechTimes

LOUD = b"\x00\x20" * 1_600
QUIET = bytes(3_200)
"""100 ms each."""
NEARLY = 50
"""ms"""


def hear_chunk(times: SpeechTimes, slices: list[bytes], now_ms: int) -> None:
    """A recorder's chunk, which is decoded in slices as soon as it comes."""
    for each in slices:
        times.hear(each, now_ms)


def spoken(times: SpeechTimes, now_ms: int) -> list[int]:
    return [times.began(now_ms), times.ended(now_ms)]


def test_speech_is_found_within_chunks_of_a_second() -> None:
    times = SpeechTimes()
    hear_chunk(times, 6 * [QUIET] + 4 * [LOUD], 5_000)
    hear_chunk(times, 10 * [LOUD], 6_000)
    hear_chunk(times, 2 * [LOUD] + 8 * [QUIET], 7_000)
    assert spoken(times, 9_000) == pytest.approx([4_600, 6_200], abs=NEARLY)


def test_a_chunk_that_is_late_on_its_way_was_not_spoken_late() -> None:
    times = SpeechTimes()
    for number, delay_ms in enumerate([0, 0, 700, 400, 0], start=1):
        hear_chunk(times, 10 * [LOUD if number >= 3 else QUIET], 1_000 * number + delay_ms)
    assert spoken(times, 9_000) == pytest.approx([2_000, 5_000], abs=100)


def test_speech_without_a_pause_is_one_stretch_however_long() -> None:
    times = SpeechTimes()
    for second in range(1, 121):
        hear_chunk(times, 4 * [LOUD + LOUD[:1600]] + [LOUD + LOUD + QUIET + QUIET], 1_000 * second)
    assert spoken(times, 120_000) == pytest.approx([0, 120_000], abs=NEARLY)


def test_a_recorder_that_was_stopped_begins_anew() -> None:
    times = SpeechTimes()
    hear_chunk(times, 10 * [QUIET], 1_000)
    hear_chunk(times, 10 * [LOUD], 21_000)
    assert spoken(times, 22_000) == pytest.approx([20_000, 21_000], abs=NEARLY)


def test_a_lost_chunk_is_forgotten_in_time() -> None:
    times = SpeechTimes()
    for second in [1, *range(3, 60)]:
        hear_chunk(times, 10 * [LOUD if second == 59 else QUIET], 1_000 * second)
    assert spoken(times, 60_000) == pytest.approx([58_000, 59_000], abs=100)


def test_a_pause_within_a_turn_does_not_divide_it_but_a_long_one_does() -> None:
    times = SpeechTimes()
    times.hear(LOUD, 100)
    for now_ms in (9_000, 10_000, 11_500):
        hear_chunk(times, [QUIET, QUIET, LOUD, LOUD], now_ms)
    assert spoken(times, 12_000) == pytest.approx([8_800, 11_500], abs=NEARLY)


def test_what_belongs_to_a_turn_that_is_over_does_not_count_for_the_next() -> None:
    times = SpeechTimes()
    for second in range(1, 7):
        hear_chunk(times, 10 * [LOUD], 1_000 * second)
    times.forget(4_500)
    assert spoken(times, 7_000) == pytest.approx([4_500, 6_000], abs=NEARLY)
    times.forget(6_100)
    assert spoken(times, 7_000) == [7_000, 7_000]


def test_a_whole_recording_at_once_ends_when_it_came() -> None:
    times = SpeechTimes()
    hear_chunk(times, 20 * [QUIET] + 80 * [LOUD], 12_000)
    assert spoken(times, 12_500) == pytest.approx([4_000, 12_000], abs=NEARLY)


def test_nothing_was_said_before_the_session() -> None:
    times = SpeechTimes()
    hear_chunk(times, 100 * [LOUD], 1_000)
    assert spoken(times, 1_000) == [0, 1_000]


def test_silence_has_no_times() -> None:
    times = SpeechTimes()
    hear_chunk(times, 10 * [QUIET], 1_000)
    assert spoken(times, 1_500) == [1_500, 1_500]
