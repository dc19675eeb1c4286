"""The emulator's parts by themselves: hearing, numbered speech, resampling, rules, prices."""

from __future__ import annotations

import array
import datetime
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_live.emulator import numbered
from tornado_live.emulator.ears import is_hallucination
from tornado_live.emulator.replies import reply_to
from tornado_live.emulator.resample import Resampler
from tornado_live.emulator.usage import TokenMeter
from tornado_live.emulator.vad import (
    ActivityConfig,
    ActivityEnded,
    ActivityStarted,
    EnergyDetector,
    Hearing,
    HearingEvent,
    Segment,
)
from tornado_live.emulator.voice import sentences

NOW = datetime.datetime(2026, 11, 22, 14, 5)
SILENCE = bytes(32_000)


def hearing(**config: object) -> Hearing:
    return Hearing(EnergyDetector(-45), ActivityConfig(**config))  # type: ignore[arg-type]


def kinds(events: list[HearingEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_speech_starts_is_cut_out_with_its_edges_and_ends() -> None:
    events = hearing().feed(SILENCE + numbered.tone(1.0) + SILENCE)
    assert kinds(events) == ["ActivityStarted", "Segment", "ActivityEnded"]
    start, segment, end = events
    assert isinstance(start, ActivityStarted)
    assert isinstance(segment, Segment)
    assert isinstance(end, ActivityEnded)
    assert 16_000 - 6_400 <= segment.offset <= 16_000 - 3_200
    assert segment.speech_s == pytest.approx(1.0, abs=0.05)
    assert len(segment.pcm) / 32_000 == pytest.approx(1.6, abs=0.2)
    assert end.offset / 16_000 == pytest.approx(2.8, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=40))
def test_what_is_heard_does_not_depend_on_how_the_audio_is_cut(cuts: list[int]) -> None:
    pcm = SILENCE + numbered.speak(1, 3) + SILENCE + numbered.tone(0.5) + SILENCE
    whole = hearing().feed(pcm)
    cut, events, at = hearing(), [], 0
    for size in cuts:
        events += cut.feed(pcm[at : at + size])
        at += size
    events += cut.feed(pcm[at:])
    assert events == whole


def test_a_pause_shorter_than_the_clients_setting_does_not_end_the_utterance() -> None:
    pcm = numbered.tone(1.0) + SILENCE + numbered.tone(1.0) + SILENCE * 3
    assert kinds(hearing(end_ms=2000).feed(pcm)).count("ActivityEnded") == 1
    assert kinds(hearing(end_ms=500).feed(pcm)).count("ActivityEnded") == 2


def test_long_speech_is_cut_at_pauses_and_no_sample_of_it_is_lost() -> None:
    speech = (numbered.tone(3.0) + bytes(9_600)) * 8
    events = hearing().feed(speech + SILENCE)
    segments = [event for event in events if isinstance(event, Segment)]
    assert len(segments) >= 3
    assert all(len(segment.pcm) / 32_000 <= 14.5 for segment in segments)
    assert sum(segment.speech_s for segment in segments) == pytest.approx(24.0, abs=0.3)


def test_speech_without_any_pause_is_cut_all_the_same() -> None:
    segments = [one for one in hearing().feed(numbered.tone(40.0) + SILENCE) if isinstance(one, Segment)]
    assert [round(len(one.pcm) / 32_000) for one in segments][:2] == [11, 11]
    for earlier, later in pairwise(segments):
        assert earlier.offset + len(earlier.pcm) // 2 == later.offset


def test_the_end_of_a_manual_utterance_within_a_frame_keeps_the_last_samples() -> None:
    ears = hearing(manual=True)
    ears.start_activity()
    ears.feed(numbered.tone(0.505))
    segment = ears.end_activity()[0]
    assert isinstance(segment, Segment)
    assert len(segment.pcm) >= 0.505 * 32_000


def test_numbered_words_are_read_wherever_they_begin() -> None:
    pcm = numbered.speak(98_765, 4)
    assert numbered.read(pcm) == ["n98765", "n98766", "n98767", "n98768"]
    assert numbered.read(bytes(1234 * 2) + pcm) == numbered.read(pcm)
    assert numbered.numbers(" ".join(numbered.read(pcm))) == [98_765, 98_766, 98_767, 98_768]


@pytest.mark.parametrize("lost_ms", [50, 200, 600])
def test_a_word_with_a_hole_is_not_taken_for_another(lost_ms: int) -> None:
    pcm = numbered.speak(10, 3)
    hole = 32_000 + 13_000
    damaged = pcm[:hole] + pcm[hole + lost_ms * 32 :]
    assert set(numbered.read(damaged)) <= {"n00010", "n00011", "n00012", "damaged"}
    assert {"n00010", "n00012"} <= set(numbered.read(damaged))


def test_a_doubled_word_is_read_twice() -> None:
    one, two = numbered.speak(1, 1), numbered.speak(2, 1)
    assert numbered.read(one + two + two) == ["n00001", "n00002", "n00002"]


def test_numbered_words_survive_noise_and_a_change_of_level() -> None:
    samples = array.array("h", numbered.speak(77, 2))
    noisy = array.array(
        "h", (round(sample / 4 + 200 * math.sin(at * 1.7)) for at, sample in enumerate(samples))
    )
    assert numbered.read(noisy.tobytes()) == ["n00077", "n00078"]


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(22_050, 24_000), (48_000, 16_000), (44_100, 16_000), (8_000, 16_000)]
)
def test_resampling_keeps_length_and_tone_and_has_no_seams(rate_in: int, rate_out: int) -> None:
    tone = array.array(
        "h", (round(8000 * math.sin(2 * math.pi * 440 * at / rate_in)) for at in range(rate_in))
    )
    whole = Resampler(rate_in, rate_out)
    expected = whole.process(tone.tobytes()) + whole.flush()
    pieces, cut = Resampler(rate_in, rate_out), b""
    for start in range(0, len(tone) * 2, 1001):
        cut += pieces.process(tone.tobytes()[start : start + 1001])
    assert cut + pieces.flush() == expected
    out = array.array("h", expected)
    assert len(out) == pytest.approx(rate_out, abs=64)
    ideal = [8000 * math.sin(2 * math.pi * 440 * at / rate_out) for at in range(len(out))]
    assert max(abs(a - b) for a, b in zip(out[500:-500], ideal[500:-500], strict=True)) < 40


def test_what_lies_above_the_new_nyquist_frequency_is_gone() -> None:
    tone = array.array(
        "h", (round(8000 * math.sin(2 * math.pi * 11_000 * at / 48_000)) for at in range(48_000))
    )
    out = array.array("h", Resampler(48_000, 16_000).process(tone.tobytes()))
    assert max(map(abs, out[200:-200])) < 40


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("What is two plus three?", "two plus three is 5."),
        ("What's 12 divided by 8?", "12 divided by 8 is 1.5."),
        ("how much is twenty-one times two", "twenty-one times two is 42."),
        ("what is one over zero", "Nothing can be divided by zero."),
        ("What time is it?", "It is 14:05."),
        ("What is the date?", "It is Sunday, 22 November 2026."),
        ("what did I say", "You said before: the cat sat."),
        ("how many turns", "This is turn 2 of our conversation."),
        ("The dog ran.", "You said: The dog ran."),
        ("what is love", "You said: what is love"),
    ],
)
def test_the_rules(said: str, answer: str) -> None:
    assert reply_to(said, ["the cat sat."], NOW) == answer


@pytest.mark.parametrize("said", ["Hello", "hi there", "who are you", "what can you do?", "help"])
def test_asked_or_greeted_it_says_what_it_is(said: str) -> None:
    assert "offline demo engine" in reply_to(said, [], NOW)
    assert "not Gemini" in reply_to(said, [], NOW)


def test_long_words_are_echoed_in_short() -> None:
    answer = reply_to("word " * 500, [], NOW)
    assert answer.endswith("… and so on, 500 words in all.")
    assert len(answer) < 250


def test_sentences_joined_are_the_text() -> None:
    text = "Hello. How are you? " + "a b " * 300 + "x" * 500
    assert "".join(sentences(text)) == text
    assert max(map(len, sentences(text))) <= 201


@pytest.mark.parametrize(
    ("text", "speech_s", "invented"),
    [("You", 0.2, True), ("Yeah.", 0.3, True), ("You", 0.6, False), ("Stop", 0.2, False)],
)
def test_short_words_without_speech_under_them_are_inventions(
    text: str, speech_s: float, invented: bool
) -> None:
    assert is_hallucination(text, speech_s) is invented


def test_a_turn_is_billed_for_all_that_was_before_it() -> None:
    meter = TokenMeter()
    meter.heard("AUDIO", 50)
    meter.said("AUDIO", 100)
    assert meter.end_turn()["totalTokenCount"] == 150
    meter.heard("TEXT", 5)
    usage = meter.end_turn()
    assert usage["promptTokensDetails"] == [
        {"modality": "AUDIO", "tokenCount": 150}, {"modality": "TEXT", "tokenCount": 5}
    ]  # fmt: skip
    meter.slide(31)
    assert meter.context_tokens == 31
