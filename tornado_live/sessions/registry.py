"""All live sessions of this server: create, find, list, end, expire."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tornado_live.errors import (
    InactivityTimeout,
    LiveError,
    SessionEnded,
    SessionExpired,
    SessionNotFound,
    ShuttingDown,
    TooManySessions,
)
from tornado_live.sessions.delivery import Answer
from tornado_live.sessions.metering import Meter
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.session import Session, ending_error
from tornado_live.store.base import SessionRecord, SessionStatus, Store, TurnRecord

LIVE: tuple[SessionStatus, ...] = ("connecting", "active", "detached")
QUIET_POLL_S = 0.05
LAST_WORDS_S = 60.0
HANDLE_LIFETIME_S = 7200.0
"""Google keeps what a resumption handle stands for this long."""


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """How many sessions there may be, and how long they live."""

    duration_s: float = 900.0
    idle_timeout_s: float = 300.0
    resume_grace_s: float = 30.0
    max_sessions: int = 500
    start_wait_s: float = 3.0
    keep_records_s: float = 7 * 86_400.0


BuildSession = Callable[[SessionRecord, SessionOptions, list[TurnRecord] | None], Session]
"""Puts a session together around its record. Raises LiveError where the options cannot be met."""


class SessionRegistry:
    """Live sessions by owner and label, and the records of those that are over.

    A label (`session_id`) is the client's own and says nothing to other owners: another owner's
    session answers exactly like one that does not exist.
    """

    def __init__(self, store: Store, build: BuildSession, policy: RegistryPolicy) -> None:
        self._store = store
        self._build = build
        self._policy = policy
        self._live: dict[tuple[str, str], Session] = {}
        self._opening: dict[tuple[str, str], asyncio.Future[Session]] = {}
        self._last_words: dict[tuple[str, str], Answer] = {}
        self._refusing = False

    @property
    def store_failing(self) -> bool:
        """What is said now may not survive this process."""
        return self._store.failing

    @property
    def live(self) -> list[Session]:
        return list(self._live.values())

    # Start

    async def start(
        self, owner: str, label: str | None, options: SessionOptions, meter: Meter | None = None
    ) -> Session:
        """The owner's live session of that label, or a new one; without a label, under a random one.

        Args:
            meter: counts what the session uses.

        Raises:
            ShuttingDown, TooManySessions, RateLimited: no room.
            UpstreamError: the model refused; no session is left.
            LiveError: the options cannot be met.
        """
        label = label or f"session_{secrets.token_urlsafe(24)}"
        where = (owner, label)
        session = self._live.get(where)
        if session is not None and self._usable(session):
            return session
        return await self._opened(where, lambda: self._start(owner, label, options, meter))

    async def _opened(self, where: tuple[str, str], make: Callable[[], Awaitable[Session]]) -> Session:
        """What `make` opens; whoever asks meanwhile gets the same."""
        opening = self._opening.get(where)
        if opening is None:
            opening = asyncio.ensure_future(make())
            self._opening[where] = opening
            opening.add_done_callback(lambda _: self._opening.pop(where, None))
        return await asyncio.shield(opening)

    async def _start(self, owner: str, label: str, options: SessionOptions, meter: Meter | None) -> Session:
        await self._wait_gone((owner, label))
        stored = await self._store.find_session(owner, label)
        if stored is not None and self._unheld(stored).status in LIVE:
            return await self._revive(stored, meter)
        self._admit()
        now = time.time()
        record = SessionRecord(
            key=secrets.token_hex(16),
            owner=owner,
            label=label,
            status="connecting",
            model=options.model or "",
            options=options.as_json(),
            started_at=now,
            last_activity_at=now,
            expires_at=now + self._policy.duration_s,
        )
        return await self._open(self._build(record, options, None), meter)

    async def _revive(self, record: SessionRecord, meter: Meter | None) -> Session:
        """Goes on with a conversation that this process does not hold: it was restarted in between."""
        self._admit()
        turns = await self._store.turns(record.key)
        handle = record.handle if _stands_for(record, turns) else None
        record = replace(record, epoch=record.epoch + 1, status="connecting", handle=handle)
        options = SessionOptions.from_json(record.options)
        return await self._open(self._build(record, options, turns), meter)

    async def _open(self, session: Session, meter: Meter | None) -> Session:
        where = (session.record.owner, session.label)
        self._live[where] = session
        session.closed_callbacks.append(self._keep_last_words)
        try:
            if meter is not None:
                await session.metering.open(meter, session.key, session.remaining_s)
            await session.open(self._policy.start_wait_s)
        except LiveError:
            self._forget(session)
            await session.discard()
            raise
        await session.save()
        return session

    def _keep_last_words(self, session: Session) -> None:
        self._forget(session)
        where = (session.record.owner, session.label)
        self._last_words[where] = session.rest.take()
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._last_words.pop, where, None)

    def _forget(self, session: Session) -> None:
        where = (session.record.owner, session.label)
        if self._live.get(where) is session:
            del self._live[where]

    def _admit(self) -> None:
        if self._refusing:
            raise ShuttingDown
        if len(self._live) >= self._policy.max_sessions:
            soonest_s = min(session.remaining_s for session in self._live.values())
            raise TooManySessions(retry_after_s=max(1.0, min(soonest_s, 30.0)))

    # Find

    def get(self, owner: str, label: str) -> Session | None:
        """The session if this process holds it, over or not."""
        return self._live.get((owner, label))

    def last_words(self, owner: str, label: str) -> Answer | None:
        """What REST had not delivered of a session that has ended within the last minute."""
        return self._last_words.get((owner, label))

    async def find(self, owner: str, label: str, meter: Meter | None = None) -> Session:
        """The live session; one that an earlier process held is gone on with.

        Raises:
            SessionNotFound: there is none, or it is someone else's.
            SessionEnded, SessionExpired, InactivityTimeout: it is over.
        """
        session = self._live.get((owner, label))
        if session is not None:
            session.check_alive()
            return session
        record = await self._store.find_session(owner, label)
        if record is None:
            raise SessionNotFound
        record = self._unheld(record)
        if record.status in LIVE:
            return await self._opened((owner, label), lambda: self._revive(record, meter))
        raise ending_error(record)

    async def record(self, owner: str, label: str) -> SessionRecord | None:
        """What is known of a session, live or over."""
        session = self._live.get((owner, label))
        if session is not None:
            self._usable(session)
            return session.view()
        record = await self._store.find_session(owner, label)
        return self._unheld(record) if record is not None else None

    async def turns(self, owner: str, label: str) -> list[TurnRecord]:
        """The transcript of a session, live or over. Raises SessionNotFound."""
        session = self._live.get((owner, label))
        if session is not None:
            return list(session.transcript.turns)
        record = await self._store.find_session(owner, label)
        if record is None:
            raise SessionNotFound
        return await self._store.turns(record.key)

    async def list(self, owner: str) -> list[SessionRecord]:
        """The owner's sessions that are not over, newest first."""
        stored = await self._store.list_sessions(owner, LIVE)
        here = [session for session in self.live if session.record.owner == owner]
        keys = {session.key for session in here}
        records = [session.view() for session in here if self._usable(session)]
        unheld = [self._unheld(record) for record in stored if record.key not in keys]
        records += [record for record in unheld if record.status in LIVE]
        return sorted(records, key=lambda record: record.started_at, reverse=True)

    # End

    async def end(self, owner: str, label: str) -> SessionRecord:
        """Ends the session after what was said has been answered; ending twice gives the same record.

        Raises:
            SessionNotFound
        """
        session = self._live.get((owner, label))
        if session is not None:
            return await asyncio.shield(session.close("ended"))
        record = await self.record(owner, label)
        if record is None:
            raise SessionNotFound
        if record.status in LIVE:
            record = replace(record, status="ended", ended_at=time.time())
            await self._store.put_session(record)
        return record

    async def _wait_gone(self, where: tuple[str, str]) -> None:
        """Until the session that is ending under this label has let go of it."""
        session = self._live.get(where)
        if session is not None and session.closing is not None:
            await asyncio.wait([session.closing])
            self._forget(session)

    @staticmethod
    def _usable(session: Session) -> bool:
        if session.remaining_s <= 0:
            session.close("expired", SessionExpired())
        return session.alive

    @staticmethod
    def _unheld(record: SessionRecord) -> SessionRecord:
        """A stored record as it is to be read while no session of this process belongs to it."""
        if record.status not in LIVE:
            return record
        if record.expires_at <= time.time():
            return replace(record, status="expired", ended_at=record.expires_at)
        return replace(record, status="detached")

    # Time

    async def sweep(self) -> None:
        """Ends what has expired, is idle, or was left by its client for longer than the grace."""
        for session in self.live:
            if session.closing is None:
                self._close_if_over(session)
        held = {session.key for session in self.live}
        for record in await self._store.open_sessions():
            if record.key not in held and record.expires_at <= time.time():
                await self._store.put_session(self._unheld(record))
        await self._store.delete_before(time.time() - self._policy.keep_records_s)

    def _close_if_over(self, session: Session) -> None:
        now_s = time.monotonic()
        left_s = now_s - session.readers.left_s if session.readers.left_s is not None else 0.0
        if session.remaining_s <= 0:
            session.close("expired", SessionExpired())
        elif left_s >= self._policy.resume_grace_s and not session.rest.used:
            session.close("ended", SessionEnded())
        elif not session.busy and now_s - session.last_activity_s >= self._policy.idle_timeout_s:
            session.close("ended", InactivityTimeout())

    def refuse_new(self) -> None:
        """From now on no session is started."""
        self._refusing = True

    async def quiet(self) -> None:
        """Returns when no reply is under way."""
        while any(session.busy for session in self.live):  # noqa: ASYNC110 - sessions come and go meanwhile
            await asyncio.sleep(QUIET_POLL_S)

    async def close(self, spread_s: float = 0.0) -> None:
        """Lets go of all sessions; their records stay, so that they can be gone on with.

        Args:
            spread_s: over so long, so that the clients do not all come back at once.
        """
        self._refusing = True
        for task in list(self._opening.values()):
            task.cancel()
        ending = [session.closing for session in self.live if session.closing is not None]
        going_on = [session for session in self.live if session.closing is None]
        pause_s = spread_s / max(1, len(going_on))

        async def suspend(session: Session, after_s: float) -> None:
            await asyncio.sleep(after_s)
            await session.suspend(ShuttingDown(retry_after_s=5.0))

        await asyncio.gather(*(suspend(session, pause_s * i) for i, session in enumerate(going_on)))
        await asyncio.gather(*ending, return_exceptions=True)
        self._live.clear()


def _stands_for(record: SessionRecord, turns: list[TurnRecord]) -> bool:
    """Whether the stored handle resumes all of the conversation; otherwise its turns are told anew."""
    if record.handle_at is None or time.time() - record.handle_at > HANDLE_LIFETIME_S:
        return False
    return record.handle_turns >= len(turns)
