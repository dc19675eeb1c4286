"""Sessions that outlive their connections: histories kept by handle."""

from __future__ import annotations

import copy
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tornado_live.emulator.usage import TokenMeter

_HANDLES_KEPT = 50


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """What one side contributed; of an interrupted reply only what had been sent."""

    role: Literal["user", "model"]
    text: str


@dataclass(slots=True)
class Session:
    """One conversation, over any number of connections.

    Attributes:
        connection: the number of the connection that holds it, None when it has none.
        age_s: lived in earlier connections, for the limits on a session's length.
        ended: when its connection ended, None while it has one.
        handles: to it, oldest first.
        has_video: pictures were sent: the session may last two minutes only, unless it is compressed.
    """

    model: str
    connection: int | None
    started: float
    history: list[HistoryEntry] = field(default_factory=list)
    meter: TokenMeter = field(default_factory=TokenMeter)
    age_s: float = 0.0
    has_video: bool = False
    ended: float | None = None
    handles: deque[str] = field(default_factory=deque)

    @property
    def user_turns(self) -> list[str]:
        return [entry.text for entry in self.history if entry.role == "user"]


@dataclass(frozen=True, slots=True)
class _SavedPoint:
    session: Session
    history_length: int
    meter: TokenMeter


class HandleUnknown(Exception):
    """The handle was never issued, is too old, or belongs to another model."""


class SessionStore:
    """Handles and what they restore, in memory.

    Args:
        ttl_s: a handle is valid for so long after its session's connection ended; 2 h on the Developer API.
        clock: seconds, monotonic; ahead of the wall clock where time is scaled.
    """

    def __init__(self, ttl_s: float = 7200.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._points: dict[str, _SavedPoint] = {}
        self._ended: deque[Session] = deque()

    def new_session(self, model: str, connection: int) -> Session:
        self._forget_old()
        return Session(model, connection, self._clock())

    def save(self, session: Session) -> str:
        """A new handle to the session as it is now; only the newest ones are kept."""
        handle = secrets.token_urlsafe(48)
        self._points[handle] = _SavedPoint(session, len(session.history), copy.deepcopy(session.meter))
        session.handles.append(handle)
        if len(session.handles) > _HANDLES_KEPT:
            del self._points[session.handles.popleft()]
        return handle

    def holder(self, handle: str) -> int | None:
        """The connection that still holds the handle's session."""
        point = self._points.get(handle)
        return point.session.connection if point else None

    def resume(self, handle: str, model: str, connection: int) -> Session:
        """The session as it was when the handle was issued, held by `connection` from now on.

        Raises:
            HandleUnknown: it cannot be resumed.
        """
        self._forget_old()
        point = self._points.get(handle)
        if point is None or point.session.model != model:
            raise HandleUnknown
        before = point.session
        before.connection = None
        now = self._clock()
        return Session(
            model,
            connection,
            now,
            history=before.history[: point.history_length],
            meter=copy.deepcopy(point.meter),
            age_s=before.age_s + (before.ended or now) - before.started,
            has_video=before.has_video,
        )

    def release(self, session: Session) -> None:
        """The session's connection has ended."""
        session.connection = None
        session.ended = self._clock()
        self._ended.append(session)

    def _forget_old(self) -> None:
        oldest = self._clock() - self._ttl_s
        while self._ended and (self._ended[0].ended or 0.0) < oldest:
            for handle in self._ended.popleft().handles:
                del self._points[handle]
