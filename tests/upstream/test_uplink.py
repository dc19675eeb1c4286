from __future__ import annotations

import pytest

from tornado_live.audio import is_loud
from tornado_live.errors import AudioTooFast
from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.uplink import Audio, Item, Signal, Text, Uplink, silence
from upstream.fakes import quiet, speech

POLICY = LinkPolicy()


def send_all(uplink: Uplink) -> list[Item]:
    """Sends everything that waits, as the link's writer does."""
    sent = []
    while uplink:
        item = uplink.head()
        uplink.pop_sent(loud=isinstance(item, Audio) and is_loud(item.pcm))
        sent.append(item)
    return sent


def pcm_of(items: list[Item]) -> bytes:
    return b"".join(item.pcm for item in items if isinstance(item, Audio))


def test_audio_is_cut_into_messages_of_at_most_half_a_second_and_the_mark_is_on_the_last() -> None:
    uplink = Uplink(POLICY)
    pcm = speech(1.3, 1234)
    uplink.put_audio(pcm, 7)
    sent = send_all(uplink)
    assert [len(item.pcm) for item in sent if isinstance(item, Audio)] == [16_000, 16_000, 9_600]
    assert [item.mark for item in sent if isinstance(item, Audio)] == [None, None, 7]
    assert pcm_of(sent) == pcm


@pytest.mark.parametrize("size", [0, 2, 15_998, 16_000, 16_002, 32_000])
def test_no_message_is_empty_or_too_long_wherever_the_audio_ends(size: int) -> None:
    uplink = Uplink(POLICY)
    uplink.put_audio(bytes(size), 1)
    sent = send_all(uplink)
    sizes = [len(item.pcm) for item in sent if isinstance(item, Audio)]
    assert sum(sizes) == size
    assert max(sizes) <= 16_000
    assert size == 0 or min(sizes) > 0


def test_the_backlog_is_counted_in_seconds_and_bounded() -> None:
    uplink = Uplink(LinkPolicy(max_backlog_s=2.0))
    uplink.put_audio(speech(1.5), None)
    with pytest.raises(AudioTooFast):
        uplink.put_audio(speech(0.6), None)
    assert uplink.backlog_s == 1.5
    uplink.put_audio(speech(0.5), None)
    send_all(uplink)
    assert uplink.backlog_s == 0.0


def test_the_head_stays_until_it_was_sent() -> None:
    uplink = Uplink(POLICY)
    uplink.put(Text("a"))
    assert uplink.head() == uplink.head() == Text("a")
    uplink.pop_sent()
    assert not uplink


def test_what_was_sent_and_not_consumed_is_said_again_first_and_without_its_marks() -> None:
    uplink = Uplink(POLICY)
    uplink.put_audio(speech(0.4, 5000), 1)
    uplink.put(Text("a"))
    send_all(uplink)
    uplink.put_audio(speech(0.2, 6000), 2)
    uplink.rewind(in_activity=False)
    assert uplink.backlog_s == pytest.approx(0.6)
    assert send_all(uplink) == [Audio(speech(0.4, 5000)), Text("a"), Audio(speech(0.2, 6000), 2)]


def test_what_was_consumed_is_not_said_again() -> None:
    uplink = Uplink(POLICY)
    uplink.put_audio(speech(0.4), None)
    send_all(uplink)
    uplink.consumed()
    uplink.rewind(in_activity=False)
    assert not uplink


def test_rewinding_twice_says_everything_once() -> None:
    uplink = Uplink(POLICY)
    uplink.put_audio(speech(0.4), None)
    send_all(uplink)
    uplink.rewind(in_activity=False)
    uplink.rewind(in_activity=False)
    assert uplink.backlog_s == pytest.approx(0.4)


def test_of_a_long_loud_turn_the_last_ten_seconds_are_kept() -> None:
    uplink = Uplink(POLICY)
    for second in range(30):
        uplink.put_audio(speech(1.0, 1000 + second), None)
    send_all(uplink)
    uplink.rewind(in_activity=False)
    again = pcm_of(send_all(uplink))
    assert again == b"".join(speech(1.0, 1000 + second) for second in range(20, 30))


def test_of_a_quiet_room_only_the_last_second_is_kept() -> None:
    uplink = Uplink(POLICY)
    for _ in range(40):
        uplink.put_audio(quiet(0.25), None)
    send_all(uplink)
    assert not uplink.open_turn_is_loud
    uplink.put_audio(speech(0.25), None)
    send_all(uplink)
    assert uplink.open_turn_is_loud
    uplink.rewind(in_activity=False)
    assert pcm_of(send_all(uplink)) == quiet(1.0) + speech(0.25)


def test_text_is_kept_however_much_audio_follows_it() -> None:
    uplink = Uplink(POLICY)
    uplink.put(Text("a"))
    uplink.put_audio(quiet(5.0), None)
    send_all(uplink)
    uplink.rewind(in_activity=False)
    assert uplink.head() == Text("a")


def test_an_activity_that_is_not_over_is_begun_again() -> None:
    uplink = Uplink(POLICY)
    uplink.put(Signal.ACTIVITY_START)
    uplink.put_audio(speech(0.5), None)
    send_all(uplink)
    uplink.consumed()
    uplink.put_audio(speech(0.5), None)
    send_all(uplink)
    uplink.rewind(in_activity=True)
    assert send_all(uplink) == [Signal.ACTIVITY_START, Audio(speech(0.5))]
    uplink.rewind(in_activity=True)
    assert send_all(uplink) == [Signal.ACTIVITY_START, Audio(speech(0.5))]


def test_a_text_can_stand_for_what_was_said() -> None:
    uplink = Uplink(POLICY)
    uplink.put_audio(speech(0.5), None)
    send_all(uplink)
    uplink.put_audio(speech(0.2), 3)
    uplink.say_instead("hello")
    assert send_all(uplink) == [Text("hello"), Audio(speech(0.2), 3)]


@pytest.mark.parametrize(
    ("pcm", "loud"),
    [
        (b"", False),
        (b"\x01", False),
        (silence(0.25), False),
        (quiet(0.25), False),
        (speech(0.25, 399), False),
        (speech(0.25, 400), True),
        (speech(0.25, -400), True),
        (speech(0.25, -32768), True),
    ],
)
def test_loud_is_what_speech_near_a_microphone_is(pcm: bytes, loud: bool) -> None:
    assert is_loud(pcm) is loud
