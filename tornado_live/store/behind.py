"""Writes that neither fail nor take long: a store that is locked or full must not stop a conversation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from tornado_live.errors import StoreUnavailable
from tornado_live.store.base import SessionRecord, SessionStatus, Store, TurnRecord

log = logging.getLogger(__name__)

WRITE_WAIT_S = 0.5
RETRY_S = 1.0
MAX_TURNS = 50_000
TURNS_AT_ONCE = 500

_TurnKey = tuple[str, str, str]


class WriteBehind:
    """A store before a store: one task writes what is queued, the newest version of everything.

    A write is in the store when it returns, unless the store is slow or fails: then it is queued, reads
    see it, and it is written as soon as the store works again. Reads raise StoreUnavailable as ever.

    Args:
        wait_s: how long a write waits for the store.
        retry_s: how often a store that fails is tried.
        max_turns: so many are queued; beyond that the oldest are given up.
    """

    def __init__(
        self,
        store: Store,
        *,
        wait_s: float = WRITE_WAIT_S,
        retry_s: float = RETRY_S,
        max_turns: int = MAX_TURNS,
    ) -> None:
        self._store = store
        self._wait_s = wait_s
        self._retry_s = retry_s
        self._max_turns = max_turns
        self._records: dict[str, SessionRecord] = {}
        self._turns: dict[_TurnKey, TurnRecord] = {}
        self._records_in_hand: dict[str, SessionRecord] = {}
        self._turns_in_hand: dict[_TurnKey, TurnRecord] = {}
        self._batch: asyncio.Future[None] | None = None
        self._work = asyncio.Event()
        self._late = False
        self._writer: asyncio.Task[None] | None = None

    @property
    def failing(self) -> bool:
        return self._late or self._store.failing

    async def open(self) -> None:
        await self._store.open()
        self._writer = asyncio.create_task(self._write_behind(), name="store-writer")

    async def close(self) -> None:
        """Tries once more to write what is queued."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
            self._take_back()
            if self._records or self._turns:
                await self._write_batch()
        if self._records or self._turns:
            log.error("store_lost", extra={"records": len(self._records), "turns": len(self._turns)})
        await self._store.close()

    # Writing

    async def put_session(self, record: SessionRecord) -> None:
        self._records[record.key] = record
        await self._written()

    async def put_turns(self, turns: Sequence[TurnRecord]) -> None:
        self._turns |= {_key(turn): turn for turn in turns}
        while len(self._turns) > self._max_turns:
            given_up = self._turns.pop(next(iter(self._turns)))
            log.error("turn_given_up", extra={"session": given_up.key, "turn": given_up.turn_id})
        await self._written()

    async def _written(self) -> None:
        """Returns when what is queued now has been written, or has waited long enough."""
        if self._batch is None:
            self._batch = asyncio.get_running_loop().create_future()
            self._work.set()
        if self.failing:
            return
        done, _ = await asyncio.wait([self._batch], timeout=self._wait_s)
        if not done and not self._late:
            self._late = True
            log.warning("store_late")

    async def _write_behind(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            batch, self._batch = self._batch, None
            written = await self._write_batch()
            if batch is not None:
                batch.set_result(None)
            if not written:
                self._work.set()
                await asyncio.sleep(self._retry_s)

    async def _write_batch(self) -> bool:
        self._records_in_hand, self._records = self._records, {}
        self._turns_in_hand, self._turns = self._turns, {}
        turns = list(self._turns_in_hand.values())
        try:
            for start in range(0, len(turns), TURNS_AT_ONCE):
                await self._store.put_turns(turns[start : start + TURNS_AT_ONCE])
            for record in self._records_in_hand.values():
                await self._store.put_session(record)
        except StoreUnavailable:
            self._late = True
            self._take_back()
            return False
        self._records_in_hand, self._turns_in_hand = {}, {}
        self._late = False
        return True

    def _take_back(self) -> None:
        """What could not be written waits on, unless there is something newer."""
        self._records = self._records_in_hand | self._records
        self._turns = self._turns_in_hand | self._turns
        self._records_in_hand, self._turns_in_hand = {}, {}

    # Reading

    async def find_session(self, owner: str, label: str) -> SessionRecord | None:
        stored = await self._store.find_session(owner, label)
        queued = [each for each in self._queued() if (each.owner, each.label) == (owner, label)]
        found = self._newest_first([*([stored] if stored else []), *queued])
        return found[0] if found else None

    async def list_sessions(self, owner: str, statuses: Sequence[SessionStatus]) -> list[SessionRecord]:
        stored = await self._store.list_sessions(owner, statuses)
        queued = [each for each in self._queued() if each.owner == owner]
        found = self._newest_first([*stored, *queued])
        return [each for each in found if each.status in statuses]

    async def open_sessions(self) -> list[SessionRecord]:
        found = self._newest_first([*await self._store.open_sessions(), *self._queued()])
        return [each for each in reversed(found) if each.status in ("connecting", "active", "detached")]

    async def turns(self, key: str) -> list[TurnRecord]:
        stored = await self._store.turns(key)
        queued = [turn for turn in (self._turns_in_hand | self._turns).values() if turn.key == key]
        turns = {_key(turn): turn for turn in [*stored, *queued]}
        return sorted(turns.values(), key=lambda turn: turn.start_ms)

    async def delete_before(self, ended_before: float) -> int:
        return await self._store.delete_before(ended_before)

    def _queued(self) -> list[SessionRecord]:
        return list((self._records_in_hand | self._records).values())

    @staticmethod
    def _newest_first(records: Iterable[SessionRecord]) -> list[SessionRecord]:
        """Later versions of a record win over earlier ones in the list."""
        by_key = {record.key: record for record in records}
        return sorted(by_key.values(), key=lambda record: record.started_at, reverse=True)


def _key(turn: TurnRecord) -> _TurnKey:
    return turn.key, turn.turn_id, turn.role
