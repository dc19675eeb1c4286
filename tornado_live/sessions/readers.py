"""Who reads a session, who sends to it, and who may come back to it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Protocol

from tornado_live.errors import LiveError, ResumeRefused, SessionReplaced, UplinkBusy
from tornado_live.sessions.events import Event

UPLINK_HOLD_S = 5.0


class Attachment(Protocol):
    """A connection that reads a session.

    Attributes:
        observer: it only reads; it neither keeps the session alive nor is replaced by a resume.
    """

    observer: bool

    def deliver(self, event: Event) -> None:
        """Takes an event on its way to the client; never blocks."""

    def session_closed(self, error: LiveError | None) -> None:
        """The session is over (None: it was ended) or has let this connection go; nothing follows."""


class Readers:
    """The connections of one session.

    Attributes:
        left_s: monotonic time at which the last WebSocket left; None while there is one, or if there
            never was.
    """

    def __init__(self) -> None:
        self.left_s: float | None = None
        self._attached: list[Attachment] = []
        self._had_socket = False
        self._sender: tuple[object, float] | None = None

    def __len__(self) -> int:
        return len(self._attached)

    def attach(self, attachment: Attachment) -> None:
        self._attached.append(attachment)
        if not attachment.observer:
            self._had_socket = True
            self.left_s = None

    def detach(self, attachment: Attachment) -> None:
        """Harmless if it is not attached."""
        self.release_uplink(attachment)
        if attachment in self._attached:
            self._attached.remove(attachment)
            if self._had_socket and all(other.observer for other in self._attached):
                self.left_s = time.monotonic()

    def replace_by(self, attachment: Attachment) -> None:
        """It takes the place of every WebSocket; those are told `session_replaced`."""
        for other in [other for other in self._attached if not other.observer]:
            self.detach(other)
            other.session_closed(SessionReplaced())
        self.attach(attachment)

    def deliver(self, event: Event) -> None:
        for attachment in self._attached:
            attachment.deliver(event)

    def close(self, error: LiveError | None) -> None:
        """The session is over for all of them."""
        attached, self._attached = self._attached, []
        for attachment in attached:
            attachment.session_closed(error)

    def claim_uplink(self, sender: object) -> None:
        """One connection sends audio at a time.

        Raises:
            UplinkBusy: another one has sent within the last 5 s.
        """
        now_s = time.monotonic()
        if self._sender is not None:
            holder, last_s = self._sender
            if holder is not sender and now_s - last_s < UPLINK_HOLD_S:
                raise UplinkBusy
        self._sender = (sender, now_s)

    def release_uplink(self, sender: object) -> None:
        if self._sender is not None and self._sender[0] is sender:
            self._sender = None


class ResumeTokens:
    """What a client comes back with. Only hashes are kept.

    The token changes at each attach. The one before it stays good until the client has shown by a
    message that it goes on: the new one may have been on its way when the network was lost.

    Args:
        newest, previous: SHA-256 hex from an earlier process, empty for none.
    """

    def __init__(self, newest: str = "", previous: str = "") -> None:
        self.newest = newest
        self.previous = previous

    def check(self, token: str) -> None:
        """Raises ResumeRefused."""
        hashed = _hashed(token)
        good = [hmac.compare_digest(hashed, known) for known in (self.newest, self.previous)]
        if not any(good):
            raise ResumeRefused

    def rotate(self, presented: str | None = None) -> str:
        """A new token; `presented`, with which the client came, is good until `confirm`."""
        token = secrets.token_urlsafe(32)
        self.newest = _hashed(token)
        self.previous = _hashed(presented) if presented is not None else ""
        return token

    def confirm(self) -> None:
        """The client is there: it has the newest token."""
        self.previous = ""


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
