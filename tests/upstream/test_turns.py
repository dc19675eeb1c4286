from __future__ import annotations

from collections.abc import Iterable

import pytest

from tornado_live.audio import is_loud
from tornado_live.upstream.base import (
    AudioDelta,
    ConnectionEvent,
    GenerationComplete,
    InputTranscript,
    Interrupted,
    LinkEvent,
    OutputTranscript,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnComplete,
    TurnFailed,
    Usage,
)
from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.turns import Stall, Turns
from tornado_live.upstream.uplink import Audio, Item, Signal, Text, Uplink
from upstream.fakes import quiet, speech

VOICE = AudioDelta(b"\x00\x20" * 2400)
"""A tenth of a second of reply."""
SILENT_VOICE = AudioDelta(b"\x01\x00" * 2400)


class Story:
    """A conversation with a clock of its own."""

    def __init__(self, *, may_stay_silent: bool = False, nudge: str | None = None) -> None:
        policy = LinkPolicy(nudge=nudge)
        self.uplink = Uplink(policy)
        self.turns = Turns(policy, self.uplink, may_stay_silent=may_stay_silent)
        self.now = 1000.0

    def model(self, *events: ConnectionEvent) -> list[LinkEvent]:
        self.turns.sign_of_life(self.now)
        return [told for event in events for told in self.turns.take(event, self.now)]

    def user(self, *items: Item | bytes) -> None:
        for item in items:
            if isinstance(item, bytes):
                self.uplink.put_audio(item, None)
            else:
                self.uplink.put(item)  # type: ignore[arg-type]
        self.sends()

    def sends(self) -> list[Item]:
        sent = []
        while self.uplink:
            item = self.uplink.head()
            loud = isinstance(item, Audio) and is_loud(item.pcm)
            self.uplink.pop_sent(loud=loud)
            self.turns.sent(item, self.now, loud=loud)
            sent.append(item)
        return sent

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def quiet(self) -> bool:
        return self.turns.quiet(self.now)

    def stalled(self) -> Stall | None:
        return self.turns.stalled(self.now)

    def lost(self) -> tuple[list[LinkEvent], bool, list[Item]]:
        events, said_again = self.turns.lost(self.now)
        return list(events), said_again, self.sends()


@pytest.fixture
def story() -> Story:
    return Story()


def failures(events: Iterable[LinkEvent]) -> list[str]:
    return [event.reason for event in events if isinstance(event, TurnFailed)]


def test_a_whole_exchange_passes_unchanged(story: Story) -> None:
    story.user(speech(1.0))
    events: list[ConnectionEvent] = [
        SpeechStarted(),
        SpeechStopped(),
        InputTranscript("hi"),
        VOICE,
        OutputTranscript("hello"),
        GenerationComplete(),
        TurnComplete(),
        Usage(),
    ]
    assert story.model(*events) == events


# What fails


def test_an_answer_that_is_owed_and_does_not_come_is_an_empty_turn(story: Story) -> None:
    assert story.model(InputTranscript("hi"), TurnComplete()) == [
        InputTranscript("hi"),
        TurnFailed("empty"),
        TurnComplete(),
    ]


@pytest.mark.parametrize("item", [Text("hi"), Signal.ACTIVITY_END])
def test_text_and_an_activity_are_owed_an_answer(story: Story, item: Item) -> None:
    story.user(item)
    assert failures(story.model(TurnComplete())) == ["empty"]


def test_a_turn_of_nothing_that_nobody_asked_for_has_not_failed(story: Story) -> None:
    story.user(speech(0.3))
    assert failures(story.model(TurnComplete())) == []


def test_a_reply_that_cannot_be_heard_is_a_silent_turn(story: Story) -> None:
    told = story.model(InputTranscript("hi"), SILENT_VOICE, SILENT_VOICE, TurnComplete())
    assert failures(told) == ["silent"]
    assert failures(story.model(InputTranscript("hi"), SILENT_VOICE, VOICE, TurnComplete())) == []


def test_a_reply_in_writing_is_not_silent(story: Story) -> None:
    assert failures(story.model(InputTranscript("hi"), TextDelta("hello"), TurnComplete())) == []


@pytest.mark.parametrize(
    ("reason", "failed"),
    [
        ("RESPONSE_REJECTED", ["rejected"]),
        ("PROHIBITED_INPUT_CONTENT", ["rejected"]),
        ("NEED_MORE_INPUT", []),
    ],
)
def test_a_turn_that_ends_for_a_reason_has_failed_unless_it_is_harmless(
    story: Story, reason: str, failed: list[str]
) -> None:
    assert failures(story.model(InputTranscript("hi"), TurnComplete(reason))) == failed


def test_a_turn_that_failed_is_complete_after_that(story: Story) -> None:
    told = story.model(InputTranscript("hi"), TurnComplete("RESPONSE_REJECTED"))
    assert told[-2:] == [TurnFailed("rejected"), TurnComplete("RESPONSE_REJECTED")]


def test_fillers_of_a_longer_answer_are_no_end(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE)
    assert story.model(TurnComplete(idle=False)) == [TurnComplete(idle=False)]
    assert not story.quiet()
    assert failures(story.model(VOICE, TurnComplete())) == []


def test_an_empty_turn_is_nudged_once_where_the_policy_says_so() -> None:
    story = Story(nudge="Please answer.")
    assert story.model(InputTranscript("hi"), TurnComplete()) == [InputTranscript("hi")]
    assert story.sends() == [Text("Please answer.")]
    assert failures(story.model(TurnComplete())) == ["empty"]
    assert story.sends() == []


def test_a_nudge_that_helps_is_not_told() -> None:
    story = Story(nudge="Please answer.")
    story.model(InputTranscript("hi"), TurnComplete())
    story.sends()
    assert story.model(VOICE, TurnComplete()) == [VOICE, TurnComplete()]


# Interruptions


def test_late_audio_of_an_interrupted_turn_is_dropped_until_its_end(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE)
    assert story.model(Interrupted(), VOICE, VOICE, TurnComplete(), VOICE) == [
        Interrupted(),
        TurnComplete(),
        VOICE,
    ]


def test_late_transcripts_are_kept(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE, Interrupted())
    assert story.model(OutputTranscript("hello")) == [OutputTranscript("hello")]


def test_audio_is_not_late_for_ever_where_the_interrupted_turn_has_no_end(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE, Interrupted())
    story.passes(2.5)
    assert story.model(VOICE) == [VOICE]


def test_a_phantom_interruption_mutes_nothing(story: Story) -> None:
    assert story.model(Interrupted(), VOICE) == [Interrupted(), VOICE]


def test_an_interrupted_turn_is_not_empty_and_leaves_the_next_one_open(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE, Interrupted())
    assert failures(story.model(InputTranscript("stop"), TurnComplete())) == []
    assert not story.quiet()
    assert failures(story.model(TurnComplete())) == ["empty"]


# Quiet moments


def test_a_new_conversation_is_quiet(story: Story) -> None:
    assert story.quiet()


def test_a_recorder_in_a_quiet_room_leaves_it_quiet(story: Story) -> None:
    story.user(quiet(5.0))
    assert story.quiet()


def test_it_is_not_quiet_from_the_first_loud_sample_to_the_end_of_the_answer(story: Story) -> None:
    quiet_then = []
    story.user(speech(0.2))
    story.passes(2.0)
    for event in (InputTranscript("hi"), VOICE, GenerationComplete()):
        quiet_then.append(story.quiet())
        story.model(event)
    quiet_then.append(story.quiet())
    assert not any(quiet_then)
    story.model(TurnComplete())
    assert story.quiet()


def test_it_is_not_quiet_within_an_activity_or_while_the_model_hears_speech(story: Story) -> None:
    story.user(Signal.ACTIVITY_START)
    assert not story.quiet()
    story.user(Signal.ACTIVITY_END)
    story.model(VOICE, TurnComplete())
    assert story.quiet()
    story.model(SpeechStarted())
    assert not story.quiet()


# A lost connection


def test_speech_that_was_not_transcribed_is_said_again(story: Story) -> None:
    story.user(quiet(3.0), speech(1.0))
    events, said_again, again = story.lost()
    assert (events, said_again) == ([], True)
    pcm = b"".join(item.pcm for item in again if isinstance(item, Audio))
    assert pcm == quiet(1.0) + speech(1.0)


def test_a_turn_that_was_transcribed_and_not_answered_is_said_again_in_writing(story: Story) -> None:
    story.user(speech(1.0))
    story.model(InputTranscript("what time"), InputTranscript(" is it"))
    story.user(quiet(1.0))
    events, said_again, again = story.lost()
    assert (events, said_again, again) == ([], False, [Text("what time is it")])


def test_speech_after_the_last_transcript_is_said_again_as_audio(story: Story) -> None:
    story.user(speech(1.0, 5000))
    story.model(InputTranscript("what time"))
    story.user(speech(1.0, 6000))
    events, said_again, again = story.lost()
    assert (events, said_again) == ([], True)
    assert again == [Audio(speech(0.5, 6000)), Audio(speech(0.5, 6000))]


def test_a_reply_that_was_cut_off_is_lost_and_not_asked_for_again(story: Story) -> None:
    story.user(speech(1.0))
    story.model(InputTranscript("hi"), VOICE)
    events, said_again, again = story.lost()
    assert (events, said_again, again) == ([TurnFailed("lost"), TurnComplete()], False, [])
    story.passes(1.0)
    assert story.quiet()


def test_a_reply_that_was_whole_is_only_complete(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE, GenerationComplete())
    assert story.lost()[0] == [TurnComplete()]


def test_text_that_was_not_answered_is_sent_again(story: Story) -> None:
    story.user(Text("hi"))
    assert story.lost() == ([], False, [Text("hi")])


def test_nothing_is_said_again_after_an_answer(story: Story) -> None:
    story.user(speech(1.0), Text("hi"))
    story.model(InputTranscript("hi"), VOICE, TurnComplete())
    assert story.lost() == ([], False, [])


def test_speech_over_a_reply_is_said_again(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE)
    story.user(speech(0.5))
    events, said_again, again = story.lost()
    assert failures(events) == ["lost"]
    assert said_again
    assert again == [Audio(speech(0.5))]


# Stalls


def test_a_turn_without_an_answer_is_tried_on_another_connection_and_then_has_failed(story: Story) -> None:
    story.user(speech(1.0))
    story.model(InputTranscript("hi"))
    story.passes(14.9)
    assert story.stalled() is None
    story.passes(0.2)
    assert story.stalled() == Stall((), redial=True)
    assert story.lost()[2] == [Text("hi")]
    story.passes(14.9)
    assert story.stalled() is None
    story.passes(0.2)
    assert story.stalled() == Stall((TurnFailed("stalled"), TurnComplete()), redial=False)
    assert story.quiet()


def test_a_model_that_may_stay_silent_is_not_asked_a_second_time() -> None:
    story = Story(may_stay_silent=True)
    story.user(speech(1.0))
    story.model(InputTranscript("talking to someone else"))
    story.passes(10.0)
    story.turns.sign_of_life(story.now)
    story.passes(5.1)
    assert story.stalled() == Stall((TurnFailed("stalled"), TurnComplete()), redial=False)
    assert story.lost() == ([], False, [])


def test_a_model_that_may_stay_silent_and_shows_no_sign_of_life_is_left() -> None:
    story = Story(may_stay_silent=True)
    story.model(InputTranscript("hi"))
    story.passes(15.1)
    assert story.stalled() == Stall((TurnFailed("stalled"), TurnComplete()), redial=True)


def test_text_is_owed_an_answer_even_by_a_model_that_may_stay_silent() -> None:
    story = Story(may_stay_silent=True)
    story.user(Text("hi"))
    story.passes(15.1)
    assert story.stalled() == Stall((), redial=True)
    assert story.lost()[2] == [Text("hi")]


def test_a_reply_that_stops_in_the_middle_has_stalled(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE)
    story.passes(15.2)
    assert story.stalled() == Stall((TurnFailed("stalled"), TurnComplete()), redial=True)


def test_a_reply_is_waited_for_as_long_as_it_plays(story: Story) -> None:
    story.model(InputTranscript("hi"), *[VOICE] * 600, GenerationComplete())
    story.passes(60 + 14.9)
    assert story.stalled() is None
    story.passes(0.2)
    assert story.stalled() == Stall((TurnComplete(),), redial=False)


def test_a_model_that_thinks_between_two_parts_of_an_answer_is_given_time(story: Story) -> None:
    story.model(InputTranscript("hi"), VOICE, TurnComplete(idle=False))
    story.passes(59.0)
    assert story.stalled() is None


def test_no_sign_of_life_after_speech_is_tried_on_another_connection_once(story: Story) -> None:
    story.user(speech(1.0))
    story.passes(15.1)
    assert story.stalled() == Stall((), redial=True)
    assert story.lost()[1]
    story.passes(15.1)
    assert story.stalled() is None
    assert story.quiet()


def test_any_message_is_a_sign_of_life(story: Story) -> None:
    story.user(speech(1.0))
    for _ in range(10):
        story.passes(10.0)
        assert story.stalled() is None
        story.turns.sign_of_life(story.now)
    story.passes(15.1)
    assert story.stalled() == Stall((), redial=True)


def test_a_quiet_room_never_stalls(story: Story) -> None:
    story.user(quiet(5.0))
    story.passes(600.0)
    assert story.stalled() is None
