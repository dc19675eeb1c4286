"""The store in one SQLite file, written through a write-ahead log (https://www.sqlite.org/wal.html).

One connection on a thread of its own does everything in the order it was asked. Every write is a
single statement and so a transaction of its own: no coroutine can come between its parts, and a
process that is killed leaves whole transactions only.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import aiosqlite

from tornado_live.errors import StoreUnavailable
from tornado_live.store.base import SessionRecord, SessionStatus, TurnRecord

log = logging.getLogger(__name__)

IN_MEMORY = ":memory:"
OPEN: tuple[SessionStatus, ...] = ("connecting", "active", "detached")

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE sessions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            label TEXT NOT NULL,
            status TEXT NOT NULL,
            model TEXT NOT NULL,
            options TEXT NOT NULL,
            started_at REAL NOT NULL,
            last_activity_at REAL NOT NULL,
            expires_at REAL NOT NULL,
            ended_at REAL,
            end_reason TEXT,
            resume_token_hash TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            last_seq INTEGER NOT NULL,
            handle TEXT,
            handle_at REAL,
            usage TEXT NOT NULL,
            init_segment BLOB NOT NULL
        )""",
        "CREATE INDEX sessions_of_owner ON sessions (owner, label, id)",
        "CREATE INDEX sessions_by_status ON sessions (status)",
        "CREATE INDEX sessions_by_end ON sessions (ended_at)",
        """CREATE TABLE turns (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL,
            turn_id TEXT NOT NULL,
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            start_ms INTEGER NOT NULL,
            end_ms INTEGER NOT NULL,
            interrupted INTEGER NOT NULL,
            written_at REAL NOT NULL,
            UNIQUE (key, turn_id, role)
        )""",
        "CREATE INDEX turns_by_age ON turns (written_at)",
        """CREATE TRIGGER turns_go_with_their_session AFTER DELETE ON sessions
            BEGIN DELETE FROM turns WHERE key = old.key; END""",
    ),
    ("ALTER TABLE sessions ADD COLUMN previous_token_hash TEXT NOT NULL DEFAULT ''",),
    ("ALTER TABLE sessions ADD COLUMN served_model TEXT NOT NULL DEFAULT ''",),
    ("ALTER TABLE sessions ADD COLUMN handle_turns INTEGER NOT NULL DEFAULT 0",),
)
"""What brings a file from each version (`PRAGMA user_version`) to the next."""

_SESSION_COLUMNS = tuple(column.name for column in fields(SessionRecord))
_TURN_COLUMNS = (*(column.name for column in fields(TurnRecord)), "written_at")
_JSON_COLUMNS = frozenset({"options", "usage"})


def _upsert(table: str, columns: Sequence[str], unique: Sequence[str]) -> tuple[str, str]:
    """The statement's head and tail; between them stand the rows."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in unique)
    head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # nosec B608  # own names
    return head, f" ON CONFLICT ({', '.join(unique)}) DO UPDATE SET {changes}"  # nosec B608  # own names


_PUT_SESSION = _upsert("sessions", _SESSION_COLUMNS, ("key",))
_PUT_TURNS = _upsert("turns", _TURN_COLUMNS, ("key", "turn_id", "role"))
_SELECT_SESSIONS = f"SELECT {', '.join(_SESSION_COLUMNS)} FROM sessions"  # nosec B608  # own names
_SELECT_TURNS = (
    f"SELECT {', '.join(_TURN_COLUMNS[:-1])} FROM turns "  # nosec B608  # own names
    "WHERE key = ? ORDER BY start_ms, id"
)


class SqliteStore:
    """Keeps records in a file that only its owner can read (mode 0600).

    A full disk, a locked or a damaged file make the methods raise StoreUnavailable, and nothing else;
    the store goes on working as soon as the cause is gone.

    Args:
        path: the file, made if there is none, in a folder that exists; `:memory:` keeps nothing.
        busy_timeout_s: how long to wait for another process that has locked the file.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_s: float = 1.0) -> None:
        self._path = os.fspath(path)
        self._busy_timeout_s = busy_timeout_s
        self._db: aiosqlite.Connection | None = None
        self._failing = False

    @property
    def failing(self) -> bool:
        return self._failing

    async def open(self) -> None:
        if self._db is not None:
            return
        with self._translated():
            if self._path != IN_MEMORY:
                _make_private(self._path)
            db = await aiosqlite.connect(self._path, timeout=self._busy_timeout_s, isolation_level=None)
            try:
                await db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # must come before the first table
                await db.execute("PRAGMA journal_mode = WAL")
                await db.execute("PRAGMA synchronous = NORMAL")
                await _migrate(db)
            except BaseException:
                await db.close()
                raise
        self._db = db

    async def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with self._translated():
                await db.close()

    async def put_session(self, record: SessionRecord) -> None:
        await self._write(_PUT_SESSION, [_session_row(record)])

    async def find_session(self, owner: str, label: str) -> SessionRecord | None:
        found = await self._sessions("WHERE owner = ? AND label = ? ORDER BY id DESC LIMIT 1", owner, label)
        return found[0] if found else None

    async def list_sessions(self, owner: str, statuses: Sequence[SessionStatus]) -> list[SessionRecord]:
        marks = _marks(len(statuses))
        return await self._sessions(
            f"WHERE owner = ? AND status IN {marks} ORDER BY id DESC", owner, *statuses
        )

    async def open_sessions(self) -> list[SessionRecord]:
        return await self._sessions(f"WHERE status IN {_marks(len(OPEN))} ORDER BY id", *OPEN)

    async def put_turns(self, turns: Sequence[TurnRecord]) -> None:
        if turns:
            written_at = time.time()
            await self._write(_PUT_TURNS, [(*_turn_row(turn), written_at) for turn in turns])

    async def turns(self, key: str) -> list[TurnRecord]:
        rows = await self._rows(_SELECT_TURNS, key)
        return [_turn_record(row) for row in rows]

    async def delete_before(self, ended_before: float) -> int:
        deleted = await self._execute("DELETE FROM sessions WHERE ended_at < ?", ended_before)
        # Turns whose session could never be written, as on a full disk, would stay for ever.
        await self._execute(
            "DELETE FROM turns WHERE written_at < ? AND key NOT IN (SELECT key FROM sessions)", ended_before
        )
        if deleted:
            with self._translated():
                # As a script, because `execute` would stop after the first freed page.
                await self._connection().executescript("PRAGMA incremental_vacuum")
        return deleted

    async def _sessions(self, condition: str, *values: str) -> list[SessionRecord]:
        rows = await self._rows(f"{_SELECT_SESSIONS} {condition}", *values)
        return [_session_record(row) for row in rows]

    async def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._translated():
            return list(await self._connection().execute_fetchall(query, values))

    async def _write(self, statement: tuple[str, str], rows: list[tuple[Any, ...]]) -> None:
        head, tail = statement
        marks = ", ".join([_marks(len(rows[0]))] * len(rows))
        await self._execute(f"{head}{marks}{tail}", *(value for row in rows for value in row))

    async def _execute(self, statement: str, *values: Any) -> int:
        """Returns how many rows it changed; committed when it returns."""
        with self._translated():
            async with self._connection().execute(statement, values) as cursor:
                return cursor.rowcount

    def _connection(self) -> aiosqlite.Connection:
        if self._db is None:
            raise StoreUnavailable()
        return self._db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns what the database raises into StoreUnavailable, and logs where failing begins and ends."""
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            self._note(str(exc))
            raise StoreUnavailable() from exc
        self._note(None)

    def _note(self, error: str | None) -> None:
        if error is not None and not self._failing:
            log.error("store_failing", extra={"path": self._path, "error": error})
        elif error is None and self._failing:
            log.warning("store_working_again", extra={"path": self._path})
        self._failing = error is not None


def _make_private(path: str) -> None:
    """SQLite gives its `-wal` and `-shm` files the mode of the main one."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(file).st_mode & 0o077:
            os.fchmod(file, 0o600)
    finally:
        os.close(file)


async def _migrate(db: aiosqlite.Connection) -> None:
    """Brings the file to the newest version, all steps or none. Leaves the transaction open if it raises."""
    if await _version(db) == len(MIGRATIONS):
        return  # nothing to write: a full disk is no reason not to read
    await db.execute("BEGIN IMMEDIATE")
    version = await _version(db)
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"made by a newer version of this server (schema {version})")
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            await db.execute(statement)
    await db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    await db.commit()


async def _version(db: aiosqlite.Connection) -> int:
    [(version,)] = await db.execute_fetchall("PRAGMA user_version")
    return int(version)


def _session_row(record: SessionRecord) -> tuple[Any, ...]:
    values = ((column, getattr(record, column)) for column in _SESSION_COLUMNS)
    return tuple(
        json.dumps(value) if column in _JSON_COLUMNS else _storable(value) for column, value in values
    )


def _session_record(row: sqlite3.Row) -> SessionRecord:
    return SessionRecord(
        **{
            column: json.loads(value) if column in _JSON_COLUMNS else value
            for column, value in zip(_SESSION_COLUMNS, row, strict=True)
        }
    )


def _turn_row(turn: TurnRecord) -> tuple[Any, ...]:
    return tuple(_storable(getattr(turn, column.name)) for column in fields(TurnRecord))


def _storable(value: Any) -> Any:
    """JSON can carry half of a surrogate pair, which has no UTF-8 form and would be refused by SQLite."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _turn_record(row: sqlite3.Row) -> TurnRecord:
    values = dict(zip(_TURN_COLUMNS, row, strict=False))
    return TurnRecord(**{**values, "interrupted": bool(values["interrupted"])})


def _marks(count: int) -> str:
    return f"({', '.join('?' * count)})"
