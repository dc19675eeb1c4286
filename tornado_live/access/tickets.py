"""One-use tickets, so that a browser, which cannot set headers on a WebSocket, puts no key in a URL."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

PREFIX = "wt_"
_MAX_OUTSTANDING = 100_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ticket(Generic[T]):
    holder: T
    origin: str | None
    expires_at: float


class TicketOffice(Generic[T]):
    """Gives out tickets of 256 random bits and takes each back once, within its lifetime.

    Args:
        lifetime_s: how long a ticket is good.
        clock: seconds, monotonic.
    """

    def __init__(self, lifetime_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.lifetime_s = lifetime_s
        self._clock = clock
        # In order of expiry, since all live equally long.
        self._outstanding: dict[bytes, _Ticket[T]] = {}

    def issue(self, holder: T, origin: str | None) -> str:
        """A ticket for that holder, good only from pages of that origin (None: only from no page)."""
        self._forget_expired()
        ticket = PREFIX + secrets.token_urlsafe(32)
        self._outstanding[_digest(ticket)] = _Ticket(holder, origin, self._clock() + self.lifetime_s)
        return ticket

    def redeem(self, ticket: str, origin: str | None) -> T | None:
        """Its holder; None when it was never issued, is used, too old, or made for another origin.

        Tried from the wrong origin it is used up as well: somebody has got hold of it.
        """
        if not ticket.startswith(PREFIX):
            return None
        found = self._outstanding.pop(_digest(ticket), None)
        if found is None or self._clock() >= found.expires_at or found.origin != origin:
            return None
        return found.holder

    def __len__(self) -> int:
        return len(self._outstanding)

    def _forget_expired(self) -> None:
        now = self._clock()
        for digest, ticket in list(self._outstanding.items()):
            if ticket.expires_at > now and len(self._outstanding) < _MAX_OUTSTANDING:
                break
            del self._outstanding[digest]


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
