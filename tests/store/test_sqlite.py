"""The SQLite store: real files, killed processes, full disks."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from tornado.ioloop import IOLoop

from tornado_live.errors import StoreUnavailable
from tornado_live.store.base import SessionRecord, SessionStatus, TurnRecord
from tornado_live.store.sqlite import MIGRATIONS, SqliteStore

RECORD = SessionRecord(
    key="k1",
    owner="web",
    label="test_session",
    status="active",
    model="gemini-3.8-live",
    options={"modality": "text", "stream": {"rate_hz": 16000}, "word": "naïve ☕"},
    started_at=1000.25,
    last_activity_at=1001.5,
    expires_at=1900.25,
    resume_token_hash="ab" * 32,
    epoch=2,
    last_seq=17,
    handle="handle-1",
    handle_at=1001.0,
    usage={"total_tokens": 12},
    init_segment=b"\x1aE\xdf\xa3\x00",
)
TURN = TurnRecord(
    key="k1", turn_id="t1", role="user", text="And so, my fellow Americans", start_ms=0, end_ms=2900
)


@pytest.fixture
def store(io_loop: IOLoop, tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.sqlite3")
    io_loop.run_sync(store.open)
    yield store
    io_loop.run_sync(store.close)


@pytest.mark.gen_test
async def test_a_session_comes_back_as_it_was_put(store: SqliteStore) -> None:
    await store.put_session(RECORD)
    assert await store.find_session("web", "test_session") == RECORD


@pytest.mark.gen_test
async def test_putting_the_same_key_again_replaces_every_field(store: SqliteStore) -> None:
    await store.put_session(RECORD)
    changes: dict[str, Any] = {
        field.name: _another(getattr(RECORD, field.name))
        for field in fields(SessionRecord)
        if field.name not in {"key", "owner", "label"}
    }
    changed = replace(RECORD, **changes | {"status": "ended", "end_reason": "client"})
    await store.put_session(changed)
    assert await store.list_sessions("web", ["active", "ended"]) == [changed]


@pytest.mark.gen_test
async def test_two_owners_with_one_label_never_see_each_other(store: SqliteStore) -> None:
    mine = replace(RECORD, key="mine", owner="me")
    yours = replace(RECORD, key="yours", owner="you")
    await store.put_session(mine)
    await store.put_session(yours)
    assert await store.find_session("me", "test_session") == mine
    assert await store.find_session("you", "test_session") == yours
    assert await store.find_session("them", "test_session") is None
    assert await store.list_sessions("me", ["active"]) == [mine]


@pytest.mark.gen_test
async def test_a_label_used_again_finds_the_newest_conversation_even_if_the_clock_went_back(
    store: SqliteStore,
) -> None:
    await store.put_session(replace(RECORD, key="old", status="ended", started_at=5000.0))
    await store.put_session(replace(RECORD, key="new", started_at=4000.0))
    await store.put_session(replace(RECORD, key="old", status="ended", last_seq=99))
    found = await store.find_session("web", "test_session")
    assert found is not None
    assert found.key == "new"
    listed = await store.list_sessions("web", ["active", "ended"])
    assert [record.key for record in listed] == ["new", "old"]


@pytest.mark.gen_test
async def test_lists_hold_only_the_asked_for_states(store: SqliteStore) -> None:
    states: list[SessionStatus] = ["connecting", "active", "detached", "ended", "expired", "failed"]
    for state in states:
        await store.put_session(replace(RECORD, key=state, label=state, status=state))
    assert {r.key for r in await store.open_sessions()} == {"connecting", "active", "detached"}
    assert {r.key for r in await store.list_sessions("web", ["ended", "failed"])} == {"ended", "failed"}
    assert await store.list_sessions("web", []) == []


@pytest.mark.gen_test
async def test_turns_come_back_in_the_order_of_the_session_clock(store: SqliteStore) -> None:
    reply = replace(TURN, role="model", text="Ask not", start_ms=3000, end_ms=5200, interrupted=True)
    second = replace(TURN, turn_id="t2", text="Wait", start_ms=5000, end_ms=5600)
    await store.put_turns([second])
    await store.put_turns([TURN, reply])
    await store.put_turns([replace(TURN, key="another conversation")])
    assert await store.turns("k1") == [TURN, reply, second]
    assert await store.turns("nothing") == []


@pytest.mark.gen_test
async def test_a_turn_put_again_is_replaced_and_no_turns_are_nothing(store: SqliteStore) -> None:
    await store.put_turns([TURN])
    whole = replace(TURN, text="And so, my fellow Americans, ask not", end_ms=4000)
    await store.put_turns([whole])
    await store.put_turns([])
    assert await store.turns("k1") == [whole]


@pytest.mark.gen_test
async def test_turns_are_put_all_or_none(store: SqliteStore) -> None:
    broken = replace(TURN, turn_id="t2", start_ms=None)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await store.put_turns([TURN, broken])
    assert await store.turns("k1") == []


@pytest.mark.gen_test
async def test_text_that_has_no_utf8_form_does_not_lose_the_record(store: SqliteStore) -> None:
    await store.put_turns([replace(TURN, text="half of \ud83d a pair")])
    await store.put_session(replace(RECORD, handle="\ud83d"))
    assert (await store.turns("k1"))[0].text == "half of ? a pair"


@pytest.mark.gen_test
async def test_old_conversations_go_with_their_turns_and_the_rest_stays(store: SqliteStore) -> None:
    await store.put_session(replace(RECORD, key="old", status="ended", ended_at=100.0))
    await store.put_session(replace(RECORD, key="recent", status="ended", ended_at=300.0))
    await store.put_session(replace(RECORD, key="open", label="other"))
    for key in ("old", "recent", "open"):
        await store.put_turns([replace(TURN, key=key)])
    assert await store.delete_before(200.0) == 1
    assert await store.delete_before(200.0) == 0
    assert await store.turns("old") == []
    assert len(await store.turns("recent")) == len(await store.turns("open")) == 1


@pytest.mark.gen_test
async def test_what_was_deleted_no_longer_takes_room(store: SqliteStore, tmp_path: Path) -> None:
    await store.put_session(replace(RECORD, status="ended", ended_at=100.0))
    await store.put_turns([replace(TURN, turn_id=f"t{n}", text="x" * 10_000) for n in range(100)])
    await store.close()
    full = size_of(tmp_path / "store.sqlite3")
    await store.open()
    assert await store.delete_before(200.0) == 1
    await store.close()
    assert full > 1_000_000 > 100_000 > size_of(tmp_path / "store.sqlite3")


@pytest.mark.gen_test
async def test_turns_whose_session_was_never_written_do_not_stay_for_ever(store: SqliteStore) -> None:
    await store.put_turns([replace(TURN, key="never written")])
    await store.delete_before(10.0)
    assert await store.turns("never written") != []
    await store.delete_before(1e11)
    assert await store.turns("never written") == []


@pytest.mark.gen_test
async def test_concurrent_writes_are_all_kept(store: SqliteStore) -> None:
    await asyncio.gather(
        *(store.put_turns([replace(TURN, turn_id=f"t{n}", start_ms=n)]) for n in range(200)),
        *(store.put_session(replace(RECORD, key=f"k{n}", label=f"l{n}")) for n in range(200)),
    )
    assert len(await store.turns("k1")) == 200
    assert len(await store.open_sessions()) == 200


@pytest.mark.gen_test
async def test_a_restart_keeps_records(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    for first in (True, False):
        store = SqliteStore(path)
        await store.open()
        if first:
            await store.put_session(RECORD)
            await store.put_turns([TURN])
        assert await store.find_session("web", "test_session") == RECORD
        assert await store.turns("k1") == [TURN]
        await store.close()


@pytest.mark.gen_test
async def test_in_memory_nothing_is_written_and_nothing_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        store = SqliteStore(":memory:")
        await store.open()
        assert await store.find_session("web", "test_session") is None
        await store.put_session(RECORD)
        await store.close()
    assert modes_of_files(tmp_path) == {}


@pytest.mark.gen_test
async def test_only_the_owner_of_the_process_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    path.touch(mode=0o644)
    old_umask = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.open()
        await store.put_session(RECORD)
    finally:
        os.umask(old_umask)
    modes = modes_of_files(tmp_path)
    await store.close()
    assert set(modes) >= {"store.sqlite3", "store.sqlite3-wal"}
    assert set(modes.values()) == {0o600}


@pytest.mark.gen_test
async def test_the_schema_has_a_version_and_a_newer_one_is_refused(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.close()
    with sqlite3.connect(tmp_path / "store.sqlite3") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StoreUnavailable):
        await store.open()


@pytest.mark.gen_test
@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_file_of_an_older_version_keeps_its_records(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.sqlite3"
    old = replace(RECORD, previous_token_hash="", served_model="")
    with sqlite3.connect(path) as db:
        for statement in (statement for step in MIGRATIONS[:version] for statement in step):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
        columns = {column: value for column, value in asdict(old).items() if value not in ("", 0)}
        columns |= {name: json.dumps(columns[name]) for name in ("options", "usage")}
        marks = ", ".join("?" * len(columns))
        db.execute(f"INSERT INTO sessions ({', '.join(columns)}) VALUES ({marks})", (*columns.values(),))
    db.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.find_session("web", "test_session") == old
    await store.put_session(replace(old, served_model="gemini-3.8-live"))
    await store.close()


@pytest.mark.gen_test
async def test_a_store_that_is_not_open_is_unavailable() -> None:
    store = SqliteStore(":memory:")
    with pytest.raises(StoreUnavailable):
        await store.open_sessions()
    await store.open()
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.put_session(RECORD)


@pytest.mark.gen_test
async def test_a_path_that_cannot_be_used_is_unavailable_and_leaves_no_thread(
    unusable_path: Path, tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    store = SqliteStore(unusable_path)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    assert str(tmp_path) not in str(caught.value)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.mark.gen_test
async def test_a_lock_held_by_another_process_is_unavailable_until_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "store.sqlite3", busy_timeout_s=0.1)
    await store.open()
    await store.put_session(RECORD)
    other = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.put_turns([TURN])
    assert await store.find_session("web", "test_session") == RECORD
    other.execute("ROLLBACK")
    other.close()
    await store.put_turns([TURN])
    assert await store.turns("k1") == [TURN]
    await store.close()
    told = [record.message for record in caplog.records if record.name == "tornado_live.store.sqlite"]
    assert told == ["store_failing", "store_working_again"]


WRITER = """
import asyncio, sys
from tornado_live.store.base import TurnRecord
from tornado_live.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    n = int(sys.argv[2])
    while True:
        n += 1
        turns = [TurnRecord("k1", f"t{n}", role, "x" * 500, n, n) for role in ("user", "model")]
        await store.put_turns(turns)
        print(n, flush=True)

asyncio.run(main())
"""


def test_a_killed_process_loses_no_committed_turn_and_leaves_the_file_whole(
    tmp_path: Path, io_loop: IOLoop
) -> None:
    path = tmp_path / "store.sqlite3"
    committed = 0
    for kill_after in (1, 7, 40, 150, 400):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(committed)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(kill_after):
            committed = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        committed = max([committed, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait()
        writer.stdout.close()

        store = SqliteStore(path)
        io_loop.run_sync(store.open)
        ids = [turn.turn_id for turn in io_loop.run_sync(lambda: store.turns("k1"))]  # noqa: B023
        io_loop.run_sync(store.close)
        assert ids[: 2 * committed] == [f"t{n}" for n in range(1, committed + 1) for _ in range(2)]
        assert len(ids) % 2 == 0, "half of a write was kept"
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        committed = len(ids) // 2


class Disk(Protocol):
    folder: Path

    def fill(self) -> None: ...
    def free(self) -> None: ...


@dataclass
class Tmpfs:
    """A file system of 1 MiB."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "junk").open("wb", buffering=0) as junk:
            try:
                while True:
                    junk.write(bytes(4096))
            except OSError:
                pass

    def free(self) -> None:
        (self.folder / "junk").unlink()


@dataclass
class FileSizeLimit:
    """Where no file system can be mounted: no file may grow any more."""

    folder: Path

    def fill(self) -> None:
        size = max(file.stat().st_size for file in self.folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield Tmpfs(tmp_path)
        subprocess.run(["umount", str(tmp_path)], check=True)
    else:
        disk = FileSizeLimit(tmp_path)
        yield disk
        disk.free()


@pytest.mark.gen_test
async def test_on_a_full_disk_writing_is_unavailable_reading_works_and_nothing_is_lost(
    small_disk: Disk,
) -> None:
    path = small_disk.folder / "store.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.put_session(RECORD)
    await store.put_turns([TURN])
    small_disk.fill()
    written = 1
    try:
        while written < 2000:
            await store.put_turns(
                [replace(TURN, turn_id=f"t{written + 1}", start_ms=written, text="x" * 2000)]
            )
            written += 1
    except StoreUnavailable:
        pass
    assert written < 2000
    assert await store.find_session("web", "test_session") == RECORD
    assert len(await store.turns("k1")) == written
    with pytest.raises(StoreUnavailable):
        await store.put_turns([replace(TURN, turn_id="big", text="x" * 500_000)])
    small_disk.free()
    await store.put_turns([replace(TURN, turn_id="after", start_ms=10_000)])
    assert len(await store.turns("k1")) == written + 1
    await store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def size_of(file: Path) -> int:
    return file.stat().st_size


def modes_of_files(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def _another(value: Any) -> Any:
    if isinstance(value, dict):
        return {**value, "more": [1, None]}
    if isinstance(value, bytes):
        return value + b"\x00"
    if isinstance(value, str):
        return value + "x"
    return 7.5 if value is None or isinstance(value, float) else value + 1
