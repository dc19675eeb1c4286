"""The registry: one session a label and owner, gone on with after a restart, over when it is over."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from dataclasses import replace

import pytest
from support import until

from sessions.fakes import FakeCodecs, FakeLink, FakeReader, FakeStore
from tornado_live.audio import StreamFormat
from tornado_live.errors import (
    SessionEnded,
    SessionExpired,
    SessionNotFound,
    ShuttingDown,
    TooManySessions,
)
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.registry import RegistryPolicy, SessionRegistry
from tornado_live.sessions.session import Session, SessionPolicy
from tornado_live.store.base import SessionRecord, TurnRecord
from tornado_live.upstream.base import InputTranscript, ResumptionHandle, TurnComplete

OPTIONS = SessionOptions(stream=StreamFormat("pcm"))


def registry(store: FakeStore, **policy: float) -> SessionRegistry:
    def build(record: SessionRecord, options: SessionOptions, turns: list[TurnRecord] | None) -> Session:
        return Session(
            record,
            options,
            policy=SessionPolicy(end_wait_s=0.1),
            codecs=FakeCodecs(),
            store=store,
            make_link=FakeLink,
            turns=turns,
        )

    return SessionRegistry(store, build, RegistryPolicy(**policy))


@pytest.mark.gen_test
async def test_a_label_belongs_to_its_owner_alone() -> None:
    sessions = registry(FakeStore())
    mine = await sessions.start("me", "label", OPTIONS)
    with pytest.raises(SessionNotFound):
        await sessions.find("you", "label")
    yours = await sessions.start("you", "label", OPTIONS)
    assert mine.key != yours.key


@pytest.mark.gen_test
async def test_starting_twice_at_once_is_one_session() -> None:
    sessions = registry(FakeStore())
    started = await asyncio.gather(*(sessions.start("me", "label", OPTIONS) for _ in range(5)))
    assert len({session.key for session in started}) == 1


@pytest.mark.gen_test
async def test_an_ended_label_begins_a_new_conversation_and_keeps_the_old_record() -> None:
    store = FakeStore()
    sessions = registry(store)
    first = await sessions.start("me", "label", OPTIONS)
    await sessions.end("me", "label")
    with pytest.raises(SessionEnded):
        await sessions.find("me", "label")
    second = await sessions.start("me", "label", OPTIONS)
    assert first.key != second.key
    assert store.sessions[first.key].status == "ended"


@pytest.mark.gen_test
async def test_ending_twice_gives_the_same_record() -> None:
    sessions = registry(FakeStore())
    await sessions.start("me", "label", OPTIONS)
    assert await sessions.end("me", "label") == await sessions.end("me", "label")


@pytest.mark.gen_test
async def test_another_process_goes_on_with_the_conversation_by_its_handle() -> None:
    store = FakeStore()
    before = await registry(store).start("me", "label", OPTIONS)
    before.link.tell(InputTranscript("one"))
    before.link.tell(TurnComplete())
    await until(lambda: store.kept)
    before.link.tell(ResumptionHandle("after one"))
    await until(lambda: store.sessions[before.key].handle == "after one")
    after = await registry(store).find("me", "label")
    assert (after.key, after.record.epoch, after.link.handle) == (before.key, 2, "after one")
    assert [turn.text for turn in after.transcript.turns] == ["one"]
    assert after.log.last_seq > before.log.last_seq


@pytest.mark.gen_test
@pytest.mark.parametrize(("age_s", "turns"), [(3.0, 0), (7300.0, 1)])
async def test_a_handle_older_than_the_last_turn_or_than_google_keeps_it_is_not_used(
    age_s: float, turns: int
) -> None:
    store = FakeStore()
    now = time.time()
    session = await registry(store, duration_s=10_000).start("me", "label", OPTIONS)
    record = store.sessions[session.key]
    store.sessions[session.key] = replace(
        record,
        started_at=now - 8000,
        handle="old",
        handle_at=now - age_s,
        handle_turns=turns,
        expires_at=now + 100,
    )
    store.kept.append(TurnRecord(session.key, "t1", "user", "said since", 0, 2000))
    after = await registry(store).find("me", "label")
    assert after.link.handle is None
    assert [turn.text for turn in after.link.history()] == ["said since"]


@pytest.mark.gen_test
async def test_what_has_expired_meanwhile_is_never_gone_on_with() -> None:
    store = FakeStore()
    session = await registry(store).start("me", "label", OPTIONS)
    store.sessions[session.key] = replace(store.sessions[session.key], expires_at=time.time() - 1)
    other = registry(store)
    with pytest.raises(SessionExpired):
        await other.find("me", "label")
    assert (await other.record("me", "label")).status == "expired"
    await other.sweep()
    await other.sweep()
    assert store.sessions[session.key].status == "expired"


@pytest.mark.gen_test
async def test_a_session_that_is_left_ends_after_the_grace_and_one_that_is_idle_too() -> None:
    store = FakeStore()
    sessions = registry(store, resume_grace_s=0.05, idle_timeout_s=0.1)
    left = await sessions.start("me", "left", OPTIONS)
    idle = await sessions.start("me", "idle", OPTIONS)
    reader = FakeReader()
    left.attach(reader)
    left.detach(reader)
    await sessions.sweep()
    assert (left.closing, idle.closing) == (None, None)
    await asyncio.sleep(0.12)
    await sessions.sweep()
    await until(lambda: not sessions.live)
    assert (store.sessions[left.key].end_reason, store.sessions[idle.key].end_reason) == (
        "session_ended",
        "inactivity_timeout",
    )
    assert not left.link.running
    assert not idle.link.running


@pytest.mark.gen_test
async def test_the_cap_is_told_with_a_time_to_wait() -> None:
    sessions = registry(FakeStore(), max_sessions=1)
    await sessions.start("me", "one", OPTIONS)
    with pytest.raises(TooManySessions) as refused:
        await sessions.start("me", "two", OPTIONS)
    assert refused.value.retry_after_s == 30.0


@pytest.mark.gen_test
async def test_closing_lets_go_of_all_and_keeps_their_records_open() -> None:
    store = FakeStore()
    sessions = registry(store)
    held = [await sessions.start("me", f"s{number}", OPTIONS) for number in range(3)]
    await sessions.close()
    assert {record.status for record in store.sessions.values()} == {"detached"}
    assert not any(session.link.running for session in held)
    with pytest.raises(ShuttingDown):
        await sessions.start("me", "late", OPTIONS)


@pytest.mark.gen_test
async def test_of_a_session_that_is_over_only_its_last_words_stay() -> None:
    sessions = registry(FakeStore())
    session = await sessions.start("me", "label", OPTIONS)
    session.rest.used = True
    session.rest.add_input("t1", "last words")
    await sessions.end("me", "label")
    await asyncio.sleep(0)
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    assert sessions.last_words("me", "label").input_text == "last words"
