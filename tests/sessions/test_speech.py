"""When the user spoke: by how loud the audio was, not by when its words came."""

from __future__ import annotations

from tornado_live.sessions.speech import SpeechTimes

LOUD = b"\x00\x20" * 1_600
QUIET = bytes(3_200)
"""100 ms each."""


def test_speech_begins_with_its_first_chunk_and_ends_with_its_last() -> None:
    times = SpeechTimes()
    for now_ms, piece in enumerate([QUIET, LOUD, LOUD, QUIET, QUIET], start=5):
        times.hear(3 * piece, now_ms * 300)
    assert (times.began(5_000), times.ended(5_000)) == (1_500, 2_100)


def test_a_pause_within_a_turn_does_not_divide_it_but_a_long_one_does() -> None:
    times = SpeechTimes()
    times.hear(LOUD, 100)
    for now_ms in (9_000, 10_000, 11_500):
        times.hear(2 * LOUD, now_ms)
    assert (times.began(12_000), times.ended(12_000)) == (8_800, 11_500)


def test_what_has_been_transcribed_does_not_count_for_the_next_turn() -> None:
    times = SpeechTimes()
    times.hear(2 * LOUD, 1_000)
    times.hear(2 * LOUD, 2_000)
    times.transcribed(1_000)
    assert times.began(3_000) == 1_800
    times.transcribed(2_000)
    assert (times.began(3_000), times.ended(3_000)) == (3_000, 3_000)


def test_audio_that_comes_faster_than_it_was_spoken_never_overlaps() -> None:
    times = SpeechTimes()
    times.hear(10 * LOUD, 1_000)
    times.transcribed(1_000)
    times.hear(10 * LOUD, 1_200)
    assert (times.began(1_200), times.ended(1_200)) == (1_000, 1_200)


def test_silence_has_no_times() -> None:
    times = SpeechTimes()
    times.hear(10 * QUIET, 1_000)
    assert (times.began(1_500), times.ended(1_500)) == (1_500, 1_500)
