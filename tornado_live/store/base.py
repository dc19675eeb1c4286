"""What is kept of a session when the process ends, and the store's interface.

The key of a session is its owner together with its label (`session_id`): labels are chosen by
clients and are no secret, so one owner's label says nothing about another's. An ended label may be
used again: `key` tells its conversations apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

SessionStatus = Literal["connecting", "active", "detached", "ended", "expired", "failed"]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One conversation.

    Attributes:
        key: unguessable id of this conversation, unique over all owners and times.
        owner: who may use it.
        label: the client's `session_id`.
        options: what was asked for at start, as JSON.
        started_at, last_activity_at, ended_at, expires_at: seconds since 1970, UTC.
        resume_token_hash, previous_token_hash: SHA-256 hex of the newest resume token, and of the one
            before it while that is good too.
        epoch: rises whenever the event numbering starts again.
        last_seq: number of the last event that was announced.
        handle, handle_at: newest upstream resumption handle and when it came.
        handle_turns: how many turns the conversation had when it came.
        usage: sums of what the upstream billed, as JSON.
        init_segment: header of the audio stream under way, so that a recorder that goes on after a
            restart can be decoded.
        served_model: the model that answers to `model`; empty in records of versions that kept none.
    """

    key: str
    owner: str
    label: str
    status: SessionStatus
    model: str
    options: dict[str, Any]
    started_at: float
    last_activity_at: float
    expires_at: float
    ended_at: float | None = None
    end_reason: str | None = None
    resume_token_hash: str = ""
    previous_token_hash: str = ""
    epoch: int = 1
    last_seq: int = 0
    handle: str | None = None
    handle_at: float | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    init_segment: bytes = b""
    served_model: str = ""
    handle_turns: int = 0


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One side's contribution to a conversation.

    Attributes:
        turn_id: id of the exchange it belongs to, `t1`, `t2`, …
        role: who spoke.
        start_ms, end_ms: on the session's clock (0 = its start).
        interrupted: the other side spoke over it.
    """

    key: str
    turn_id: str
    role: Literal["user", "model"]
    text: str
    start_ms: int
    end_ms: int
    interrupted: bool = False


class Store(Protocol):
    """Where records are kept. All methods raise StoreUnavailable when the store cannot be reached."""

    @property
    def failing(self) -> bool:
        """The last that was asked of it did not work."""

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Writes what is queued, then lets go of the store."""

    async def put_session(self, record: SessionRecord) -> None:
        """Creates or replaces by `key`."""

    async def find_session(self, owner: str, label: str) -> SessionRecord | None:
        """The newest conversation of that owner under that label."""

    async def list_sessions(self, owner: str, statuses: Sequence[SessionStatus]) -> list[SessionRecord]:
        """That owner's conversations in these states, newest first."""

    async def open_sessions(self) -> list[SessionRecord]:
        """Every owner's conversations that have neither ended nor expired nor failed."""

    async def put_turns(self, turns: Sequence[TurnRecord]) -> None:
        """Creates or replaces by (`key`, `turn_id`, `role`), all or none. Committed when it returns."""

    async def turns(self, key: str) -> list[TurnRecord]:
        """The conversation's turns in order."""

    async def delete_before(self, ended_before: float) -> int:
        """Deletes conversations that ended before then, with their turns; returns how many."""
