"""Who is on the other end of one WebSocket, from its opening to its close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from tornado_live.access.buckets import MessageGate
from tornado_live.access.identity import Caller
from tornado_live.access.limits import Account
from tornado_live.errors import AuthFailed, AuthRequired, AuthTimeout, LiveError
from tornado_live.handlers.services import Services

RECHECK_S: Final = 30.0


class SocketIdentity:
    """Asks for a credential within `auth.timeout`, and asks again every 30 s whether it is still good.

    Args:
        lost: called when the socket must be closed: nobody authenticated, or the key was revoked.
    """

    def __init__(
        self, services: Services, address: str, origin: str | None, lost: Callable[[LiveError], None]
    ) -> None:
        self._services = services
        self._address = address
        self._origin = origin
        self._lost = lost
        self._caller: Caller | None = None
        self._account: Account | None = None
        self._gate = services.limiter.stranger_gate(address)
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = ExitStack()

    @property
    def known(self) -> bool:
        return self._caller is not None

    @property
    def caller(self) -> Caller:
        """Raises AuthRequired while nobody has authenticated."""
        if self._caller is None:
            raise AuthRequired
        return self._caller

    def require(self) -> None:
        """Raises AuthRequired while nobody has authenticated."""
        if self._caller is None:
            raise AuthRequired

    @property
    def account(self) -> Account:
        """Raises AuthRequired while nobody has authenticated."""
        if self._account is None:
            raise AuthRequired
        return self._account

    @property
    def gate(self) -> MessageGate:
        """How fast the client may send; while it is unknown, as fast as a stranger."""
        return self._gate

    def open(self, headers: Mapping[str, str], ticket: str | None) -> None:
        """Knows the caller by the upgrade request, or begins to wait for a message.

        Raises:
            AuthFailed: a credential came with the upgrade and is not valid.
            RateLimited: too many wrong credentials, or too many sockets that wait, from this address.
        """
        authenticator = self._services.authenticator
        if not authenticator.required:
            self._accept(authenticator.anonymous())
        elif ticket is not None:
            self.authenticate(ticket)
        elif "X-API-Key" in headers or "Authorization" in headers:
            self._accept(self._services.known_by_headers(headers, self._address, self._origin))
        else:
            self._waiting.enter_context(self._services.strangers.waiting(self._address))
            timeout_s = self._services.settings.auth.timeout
            self._timer = asyncio.get_running_loop().call_later(timeout_s, self._lost, AuthTimeout())

    def authenticate(self, credential: str) -> Caller:
        """Raises AuthFailed or RateLimited."""
        caller = self._services.known_by(credential, self._address, self._origin)
        self._accept(caller)
        return caller

    def recheck(self) -> Caller:
        """Raises AuthFailed when the credential has been revoked or has expired."""
        self._services.authenticator.recheck(self.caller)
        return self.caller

    def close(self) -> None:
        self._waiting.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _accept(self, caller: Caller) -> None:
        self.close()
        self._caller = caller
        self._account = self._services.limiter.account(caller, self._address)
        self._gate = self._account.message_gate()
        if self._services.authenticator.required:
            self._set_recheck()

    def _set_recheck(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RECHECK_S, self._recheck_now)

    def _recheck_now(self) -> None:
        try:
            self.recheck()
        except AuthFailed as exc:
            self._lost(exc)
        else:
            self._set_recheck()
