"""A session by itself: what the model says becomes, and what outlives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from support import until

from sessions.fakes import FakeReader, FakeStore, make_session
from tornado_live.audio import StreamFormat
from tornado_live.errors import ResumeRefused, SessionExpired, SessionReplaced, ShuttingDown, UplinkBusy
from tornado_live.sessions.events import Notice
from tornado_live.sessions.intake import Chunk
from tornado_live.sessions.session import Session
from tornado_live.store.base import TurnRecord
from tornado_live.upstream.base import (
    AudioDelivered,
    AudioDelta,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ResumptionHandle,
    TextDelta,
    TurnComplete,
    TurnFailed,
)


async def opened(store: FakeStore | None = None, **options) -> tuple[Session, FakeReader]:
    session = make_session(store, **options)
    await session.open(1.0)
    reader = FakeReader()
    session.attach(reader)
    return session, reader


def tell(session: Session, *events) -> None:
    for event in events:
        session.link.tell(event)


@pytest.mark.gen_test
async def test_an_exchange_is_in_the_store_before_it_is_announced_final() -> None:
    store = FakeStore()
    session, reader = await opened(store)
    kept_when_told: list[int] = []
    reader.deliver = lambda event: kept_when_told.append(len(store.kept))
    tell(session, InputTranscript("hello"), TextDelta("hi"), TurnComplete())
    await until(lambda: len(kept_when_told) == 4)
    assert kept_when_told == [0, 0, 2, 2]
    assert [(turn.role, turn.text) for turn in store.kept] == [("user", "hello"), ("model", "hi")]


@pytest.mark.gen_test
async def test_what_is_said_while_an_exchange_is_committed_comes_after_it() -> None:
    class SlowStore(FakeStore):
        async def put_turns(self, turns: Sequence[TurnRecord]) -> None:
            await asyncio.sleep(0.05)
            await super().put_turns(turns)

    session, reader = await opened(SlowStore())
    tell(session, InputTranscript("one"), TurnComplete(), InputTranscript("two"), TurnComplete())
    await until(lambda: len(reader.finals) == 2)
    assert [update.exchange.input_text for update in reader.finals] == ["one", "two"]


@pytest.mark.gen_test
async def test_a_commit_does_not_hold_back_acknowledgements_of_audio() -> None:
    session, reader = await opened(modality="audio", audio_delivery="stream")
    tell(session, AudioDelta(bytes(48_000 * 5)), AudioDelta(bytes(48_000)), TurnComplete(), AudioDelivered(7))
    assert "audio_ack" in reader.notices
    assert "turn_complete" not in reader.notices
    await session.close("ended")


@pytest.mark.gen_test
async def test_a_failed_turn_is_named_unless_the_user_had_stopped_it() -> None:
    session, reader = await opened()
    tell(session, InputTranscript("one"), TurnFailed("empty"), TurnComplete())
    await until(lambda: reader.finals)
    assert reader.notice("turn_failed") == {"reason": "empty", "turnId": "t1"}
    tell(session, TextDelta("two"))
    session.cancel_reply()
    tell(session, TurnFailed("lost"), TurnComplete())
    await until(lambda: len(reader.finals) == 2)
    tell(session, TextDelta("three"), Interrupted(), TurnFailed("empty"), TurnComplete())
    await until(lambda: len(reader.finals) == 3)
    assert reader.notices.count("turn_failed") == 1


@pytest.mark.gen_test
async def test_an_interruption_ends_the_exchange_and_is_marked_in_the_ledger() -> None:
    store = FakeStore()
    session, reader = await opened(store)
    tell(session, InputTranscript("one"), OutputTranscript("long ans"), Interrupted(), TurnComplete())
    tell(session, InputTranscript("two"), OutputTranscript("short"), TurnComplete())
    await until(lambda: len(reader.finals) == 2)
    assert [(turn.text, turn.interrupted) for turn in store.kept if turn.role == "model"] == [
        ("long ans", True),
        ("short", False),
    ]


@pytest.mark.gen_test
async def test_a_session_that_is_left_and_saved_can_still_be_used() -> None:
    session, reader = await opened()
    session.detach(reader)
    await session.save()
    session.attach(FakeReader())
    session.send_text("still here")
    assert session.status == "active"


@pytest.mark.gen_test
async def test_acknowledgements_never_run_ahead_of_audio_that_waits() -> None:
    session, _ = await opened(stream=StreamFormat("echo"))
    for seq, data in enumerate((b"HE", b"ADaa")):
        session.feed(Chunk(data, StreamFormat("echo"), seq))
    assert session.link.sent == [("audio", b"", 0), ("audio", b"aa", 1)]


@pytest.mark.gen_test
async def test_the_first_handle_after_a_turn_is_saved_at_once() -> None:
    store = FakeStore()
    session, reader = await opened(store)
    tell(session, InputTranscript("one"), TurnComplete())
    await until(lambda: reader.finals)
    tell(session, ResumptionHandle("with one"))
    await until(lambda: store.sessions and store.sessions["key"].handle == "with one")


@pytest.mark.gen_test
async def test_a_token_is_stored_before_the_client_has_it() -> None:
    store = FakeStore()
    session, _ = await opened(store)
    await session.new_resume_token()
    assert store.sessions["key"].resume_token_hash


@pytest.mark.gen_test
async def test_a_client_that_never_got_its_new_token_comes_back_with_the_old_one() -> None:
    session, first = await opened()
    token = await session.new_resume_token()
    second, third = FakeReader(), FakeReader()
    await session.resume(second, token, 0)
    resumption = await session.resume(third, token, 0)
    assert [type(error) for error in (*first.closed_by, *second.closed_by)] == [SessionReplaced] * 2
    session.touch()
    with pytest.raises(ResumeRefused):
        await session.resume(FakeReader(), token, 0)
    await session.resume(FakeReader(), resumption.token, 0)


@pytest.mark.gen_test
async def test_two_that_come_back_at_once_leave_one_attached() -> None:
    session, _ = await opened()
    token = await session.new_resume_token()
    readers = [FakeReader() for _ in range(5)]
    await asyncio.gather(*(session.resume(reader, token, 0) for reader in readers), return_exceptions=True)
    session.announce(Notice("still_there"))
    assert sum("still_there" in reader.notices for reader in readers) == 1


@pytest.mark.gen_test
async def test_an_observer_is_neither_replaced_nor_keeps_the_session_alive() -> None:
    session, reader = await opened()
    observer = FakeReader(observer=True)
    session.attach(observer)
    await session.resume(FakeReader(), await session.new_resume_token(), 0)
    assert observer.closed_by == []
    session.readers.replace_by(reader)
    session.detach(reader)
    assert session.status == "detached"


@pytest.mark.gen_test
async def test_one_connection_sends_audio_at_a_time() -> None:
    session, reader = await opened()
    session.claim_uplink(reader)
    with pytest.raises(UplinkBusy):
        session.claim_uplink(FakeReader())
    session.release_uplink(reader)
    session.claim_uplink(FakeReader())


@pytest.mark.gen_test
async def test_the_end_comes_by_the_clock_and_nobody_attaches_afterwards() -> None:
    session = make_session(lifetime_s=0.2)
    await session.open(1.0)
    reader = FakeReader()
    session.attach(reader)
    token = await session.new_resume_token()
    await until(lambda: reader.closed_by)
    assert isinstance(reader.closed_by[0], SessionExpired)
    with pytest.raises(SessionExpired):
        await session.resume(FakeReader(), token, 0)
    assert not session.link.running
    assert session.record.status == "expired"


@pytest.mark.gen_test
async def test_the_wall_clock_may_jump_without_ending_or_prolonging_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, _ = await opened()
    now = time.time
    for jump_s in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: now() + jump_s)
        assert session.remaining_s == pytest.approx(900.0, abs=1.0)
        session.check_alive()


@pytest.mark.gen_test
async def test_a_suspended_session_keeps_what_was_said_and_is_not_over() -> None:
    store = FakeStore()
    session, reader = await opened(store)
    tell(session, InputTranscript("half a sen"))
    await session.suspend(ShuttingDown())
    assert [turn.text for turn in store.kept] == ["half a sen"]
    record = store.sessions["key"]
    assert (record.status, record.ended_at) == ("detached", None)
    assert isinstance(reader.closed_by[0], ShuttingDown)


@pytest.mark.gen_test
async def test_the_end_waits_for_speech_that_a_typed_turn_overtook() -> None:
    session, _ = await opened()
    session.feed(Chunk(b"\1\0" * 1600, StreamFormat("pcm")))
    session.send_text("two plus three?")
    await until(lambda: ("text", "two plus three?") in session.link.sent)
    ending = session.close("ended")
    await until(lambda: ("end_of_stream",) in session.link.sent)
    tell(session, TextDelta("five"), TurnComplete())
    await until(lambda: session.transcript.turns)
    tell(session, InputTranscript("and this was said"), TurnComplete())
    await ending
    assert [turn.text for turn in session.transcript.turns if turn.role == "user"] == [
        "two plus three?",
        "and this was said",
    ]


LOUD = b"\x00\x20" * 320


@pytest.mark.gen_test
async def test_a_spoken_turn_lasts_as_long_as_it_was_heard_whenever_its_words_come() -> None:
    session, reader = await opened()
    await asyncio.sleep(0.4)
    session.feed(Chunk(LOUD, StreamFormat("pcm")))
    heard_ms = session.now_ms
    await asyncio.sleep(0.5)
    session.feed(Chunk(bytes(len(LOUD)), StreamFormat("pcm")))
    tell(session, InputTranscript("said before"), TextDelta("yes"))
    replied_ms = session.now_ms
    tell(session, TurnComplete())
    await until(lambda: session.transcript.turns)
    said = session.transcript.turns[0]
    assert (said.start_ms, said.end_ms) == pytest.approx((heard_ms - 20, heard_ms), abs=20)
    await until(lambda: "turn_complete" in reader.notices)
    latency = reader.notice("turn_complete")["latency"]
    assert latency["firstReplyMs"] == pytest.approx(replied_ms - heard_ms, abs=20)


@pytest.mark.gen_test
async def test_an_interruption_says_what_was_heard_where_the_client_reports_its_playback() -> None:
    session, reader = await opened(modality="audio", audio_delivery="stream")
    half_second = AudioDelta(bytes(24_000))
    tell(session, half_second, OutputTranscript("One, "), half_second, OutputTranscript("two, "))
    tell(session, half_second, OutputTranscript("three."))
    session.played("t1", 1_200)
    session.played("t0", 9_000)
    tell(session, Interrupted())
    assert reader.notice("interrupted") == {"turnId": "t1", "heardMs": 1_200, "heardText": "One, two,"}


async def heard(session: Session, seconds: float = 0.1) -> tuple[int, int]:
    """Has so much loud audio come, and returns when it began and ended."""
    chunk = Chunk(b"\x00\x20" * round(16_000 * seconds), StreamFormat("pcm"))
    session.feed(chunk)
    await chunk.done
    ended_ms = session.now_ms
    return ended_ms - round(seconds * 1000), ended_ms


@pytest.mark.gen_test
async def test_a_turn_began_when_it_was_said_even_if_the_reply_came_before_its_words() -> None:
    session, _ = await opened()
    await asyncio.sleep(0.3)
    began_ms, ended_ms = await heard(session)
    await asyncio.sleep(0.2)
    tell(session, TextDelta("yes"), InputTranscript("said before"), TurnComplete())
    await until(lambda: session.transcript.turns)
    said = session.transcript.turns[0]
    assert (said.start_ms, said.end_ms) == pytest.approx((began_ms, ended_ms), abs=20)


@pytest.mark.gen_test
async def test_speech_that_a_typed_turn_overtook_keeps_its_time() -> None:
    session, _ = await opened()
    await asyncio.sleep(0.2)
    _, ended_ms = await heard(session)
    session.send_text("typed")
    tell(session, TextDelta("yes"), TurnComplete())
    await until(lambda: session.transcript.turns)
    await asyncio.sleep(0.2)
    tell(session, InputTranscript("spoken"), TurnComplete())
    await until(lambda: len(session.transcript.turns) == 3)
    typed, _, spoken = session.transcript.turns
    assert typed.start_ms <= spoken.start_ms <= session.now_ms - 200
    assert spoken.end_ms == pytest.approx(max(ended_ms, spoken.start_ms), abs=20)


@pytest.mark.gen_test
async def test_what_was_loud_in_a_turn_does_not_begin_the_next() -> None:
    session, _ = await opened()
    await heard(session, 1.5)
    tell(session, InputTranscript("one"), TextDelta("yes"))
    await asyncio.sleep(0.2)
    await heard(session, 0.1)
    tell(session, Interrupted(), TurnComplete())
    await until(lambda: session.transcript.turns)
    began_ms, _ = await heard(session, 0.1)
    tell(session, InputTranscript("two"), TurnComplete())
    await until(lambda: len(session.transcript.turns) == 3)
    assert began_ms - 250 <= session.transcript.turns[2].start_ms <= began_ms + 20


@pytest.mark.gen_test
async def test_words_of_different_utterances_do_not_touch() -> None:
    session, _ = await opened()
    tell(session, InputTranscript("one"), TextDelta("Yes."), TurnComplete(idle=False))
    tell(session, InputTranscript("two"), TextDelta("No."), TurnComplete())
    await until(lambda: len(session.transcript.turns) == 2)
    assert [turn.text for turn in session.transcript.turns] == ["one two", "Yes. No."]
    session.send_text("typed")
    tell(session, InputTranscript("spoken"), TurnComplete())
    await until(lambda: len(session.transcript.turns) == 3)
    assert session.transcript.turns[2].text == "typed spoken"
    tell(session, InputTranscript("first."))
    await asyncio.sleep(0.6)
    tell(session, InputTranscript("Second"), InputTranscript("."), TurnComplete())
    await until(lambda: len(session.transcript.turns) == 4)
    assert session.transcript.turns[3].text == "first. Second."


@pytest.mark.gen_test
async def test_pieces_of_a_word_are_joined_however_late_they_come() -> None:
    session, _ = await opened()
    tell(session, InputTranscript("my"), InputTranscript(" fel"))
    await asyncio.sleep(0.6)
    tell(session, InputTranscript("low"), TurnComplete())
    await until(lambda: session.transcript.turns)
    assert session.transcript.turns[0].text == "my fellow"


SPOKEN = AudioDelta(bytes(48_000 * 5))
"""Five seconds."""


@pytest.mark.gen_test
@pytest.mark.parametrize("by_model", [True, False])
async def test_a_complete_reply_can_be_stopped_while_it_is_played(by_model: bool) -> None:
    session, reader = await opened(modality="audio", audio_delivery="stream")
    for _ in range(3):
        tell(session, SPOKEN)
    tell(session, OutputTranscript("a long answer"), TurnComplete())
    await until(lambda: session.transcript.turns)
    assert session.busy
    session.played("t1", 1_000)
    if by_model:
        tell(session, Interrupted(), TurnComplete())
    else:
        session.cancel_reply()
    assert reader.notice("interrupted")["heardMs"] == 1_000
    await until(lambda: not session.busy)
    pieces = len(reader.events)
    await until(lambda: session.settled)
    assert "turn_complete" not in reader.notices
    assert len(reader.finals) == 1
    await asyncio.sleep(0.3)
    assert len(reader.events) == pieces


@pytest.mark.gen_test
async def test_what_is_typed_during_a_reply_belongs_to_the_next_exchange() -> None:
    session, _ = await opened()
    session.send_text("first")
    tell(session, TextDelta("one"))
    session.send_text("second")
    tell(session, TextDelta(" two"), TurnComplete())
    session.send_text("third")
    tell(session, TextDelta("three"), TurnComplete())
    await until(lambda: len(session.transcript.turns) == 4)
    assert [(turn.turn_id, turn.text) for turn in session.transcript.turns] == [
        ("t1", "first"), ("t1", "one two"), ("t2", "second third"), ("t2", "three"),
    ]  # fmt: skip


@pytest.mark.gen_test
async def test_what_was_typed_during_a_reply_is_kept_when_the_session_ends_before_it_is_answered() -> None:
    session, _ = await opened()
    session.send_text("first")
    tell(session, TextDelta("one"))
    session.send_text("second")
    await session.close("ended")
    assert [turn.text for turn in session.transcript.turns] == ["first", "one", "second"]


@pytest.mark.gen_test
async def test_a_reply_that_was_broken_off_is_marked_and_not_called_complete() -> None:
    session, reader = await opened()
    tell(session, InputTranscript("hello"), TextDelta("one"), TurnFailed("lost"), TurnComplete())
    await until(lambda: session.settled)
    assert session.transcript.turns[1].interrupted
    assert "turn_failed" in reader.notices
    assert "turn_complete" not in reader.notices
