"""Writes while the store is locked, slow or full: quick, kept, and made good."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import until
from tornado.ioloop import IOLoop

from tornado_live.store.base import SessionRecord, TurnRecord
from tornado_live.store.behind import WriteBehind
from tornado_live.store.sqlite import SqliteStore

RECORD = SessionRecord(
    key="k1",
    owner="owner",
    label="label",
    status="active",
    model="model",
    options={},
    started_at=1000.0,
    last_activity_at=1000.0,
    expires_at=9e9,
)


def turn(number: int) -> TurnRecord:
    return TurnRecord("k1", f"t{number}", "user", f"sentence {number}", number * 1000, number * 1000 + 500)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(io_loop: IOLoop, path: Path) -> Iterator[WriteBehind]:
    store = WriteBehind(SqliteStore(path, busy_timeout_s=0.2), wait_s=0.1, retry_s=0.05)
    io_loop.run_sync(store.open)
    yield store
    io_loop.run_sync(store.close)


@pytest.fixture
def locker(store: WriteBehind, path: Path) -> Iterator[sqlite3.Connection]:
    """Another process, as it were, that locks the file by `BEGIN IMMEDIATE`."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.mark.gen_test
async def test_a_write_is_in_the_store_when_it_returns(store: WriteBehind, path: Path) -> None:
    await store.put_session(RECORD)
    await store.put_turns([turn(1)])
    other = SqliteStore(path)
    await other.open()
    assert await other.turns("k1") == [turn(1)]
    await other.close()
    assert not store.failing


@pytest.mark.gen_test
async def test_a_locked_store_stops_nobody_and_is_made_good(
    store: WriteBehind, locker: sqlite3.Connection
) -> None:
    locker.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    for number in range(1, 21):
        await store.put_turns([turn(number)])
    await store.put_session(RECORD)
    assert time.monotonic() - began < 0.3
    assert store.failing
    assert len(await store.turns("k1")) == 20
    assert await store.find_session("owner", "label") == RECORD
    locker.execute("ROLLBACK")
    await until(lambda: not store.failing)
    rows = locker.execute("SELECT turn_id FROM turns ORDER BY start_ms").fetchall()
    assert [row[0] for row in rows] == [f"t{number}" for number in range(1, 21)]


@pytest.mark.gen_test
async def test_reads_see_the_newest_version_that_waits(
    store: WriteBehind, locker: sqlite3.Connection
) -> None:
    await store.put_session(RECORD)
    locker.execute("BEGIN IMMEDIATE")
    await store.put_session(replace(RECORD, status="ended", ended_at=2000.0))
    assert (await store.find_session("owner", "label")).status == "ended"
    assert await store.open_sessions() == []
    assert await store.list_sessions("owner", ["active"]) == []
    assert await store.find_session("stranger", "label") is None
    locker.execute("ROLLBACK")


@pytest.mark.gen_test
async def test_closing_writes_what_waits(path: Path) -> None:
    store = WriteBehind(SqliteStore(path, busy_timeout_s=0.2), wait_s=0.1, retry_s=60.0)
    await store.open()
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    await store.put_turns([turn(1)])
    await until(lambda: store.failing)
    await asyncio.sleep(0.3)
    locker.execute("ROLLBACK")
    await store.close()
    assert locker.execute("SELECT count(*) FROM turns").fetchone() == (1,)
    locker.close()


@pytest.mark.gen_test
async def test_no_more_turns_wait_than_may(path: Path) -> None:
    store = WriteBehind(SqliteStore(path, busy_timeout_s=0.1), wait_s=0.05, retry_s=60.0, max_turns=3)
    await store.open()
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    await store.put_turns([turn(1)])
    await until(lambda: store.failing)
    for number in range(2, 10):
        await store.put_turns([turn(number)])
    locker.execute("ROLLBACK")
    assert [each.turn_id for each in await store.turns("k1")][-3:] == ["t7", "t8", "t9"]
    await store.close()
    locker.close()
