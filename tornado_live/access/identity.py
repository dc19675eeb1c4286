"""Who is calling: API keys, JSON Web Tokens and one-use tickets, all told apart here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tornado_live.access.keys import KeyRing, fingerprint
from tornado_live.access.tickets import TicketOffice
from tornado_live.errors import AuthFailed, AuthRequired, SettingsError
from tornado_live.settings import AuthSettings, KeySettings, QuotaSettings

if TYPE_CHECKING:
    from tornado_live.access.tokens import Token

_MAX_CREDENTIAL_CHARS = 8192


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who may use the server.

    Attributes:
        owner: whom sessions belong to; of one kind of credential never equal to one of another.
        name: for people and logs.
        shared: the credential is public, so it lists nothing and its limits count per address.
        expires_at: seconds since 1970; None: never.
        limits: what replaces the settings' limits for this caller.
        kind: `anonymous` where no authentication is asked for.
        fingerprint: of the key, or the signing key's name: finds the credential again at a recheck.
    """

    owner: str
    name: str
    scopes: frozenset[str] = frozenset()
    shared: bool = False
    expires_at: float | None = None
    limits: QuotaSettings | None = None
    kind: Literal["anonymous", "key", "token"] = "anonymous"
    fingerprint: str = field(default="", repr=False)

    @property
    def counts_per_address(self) -> bool:
        """True where many people hold the same identity, so that none may use up what all need."""
        return self.shared or self.kind == "anonymous"


_ANONYMOUS = Caller(owner="anonymous", name="anonymous")


class Authenticator:
    """Knows who holds a credential. With `auth.mode: none`, everybody is the same owner.

    Args:
        clock: seconds since 1970, UTC.

    Attributes:
        required: whether callers must say who they are.

    Raises:
        SettingsError: a file of keys is missing or wrong, or the mode has nothing to accept.
    """

    def __init__(self, settings: AuthSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.required = settings.mode != "none"
        self._clock = clock
        self._keys = KeyRing(settings.keys, settings.keys_file, clock=clock)
        self._tokens = None
        self._tickets: TicketOffice[Caller] = TicketOffice(settings.ticket_lifetime)
        if settings.mode == "keys" and settings.keys_file is None and not len(self._keys):
            raise SettingsError(["auth.mode is keys, but auth.keys is empty and auth.keys_file is not set"])
        if settings.mode == "jwt":
            if settings.jwt is None:
                raise SettingsError(["auth.mode is jwt, but auth.jwt is not set"])
            # Here, so that PyJWT is imported only by those who use it.
            from tornado_live.access.tokens import TokenVerifier

            self._tokens = TokenVerifier(settings.jwt)

    def anonymous(self) -> Caller:
        """The one owner of a server that asks for no authentication.

        Raises:
            AuthRequired: this server asks for it.
        """
        if self.required:
            raise AuthRequired()
        return _ANONYMOUS

    def authenticate(self, credential: str, *, origin: str | None = None) -> Caller:
        """Whoever holds this key, token or ticket. Without authentication, everyone may.

        Args:
            credential: as sent, without `Bearer `.
            origin: of the page that sends it; a ticket is good only from the page it was made for.

        Raises:
            AuthFailed: always with the same words, whatever is wrong with it.
        """
        if not self.required:
            return _ANONYMOUS
        if len(credential) > _MAX_CREDENTIAL_CHARS:
            raise AuthFailed()
        ticket_holder = self._tickets.redeem(credential, origin)
        if ticket_holder is not None:
            self.recheck(ticket_holder)
            return ticket_holder
        hashed = fingerprint(credential)
        key = self._keys.find(hashed)
        if key is not None:
            return _key_holder(key, hashed)
        if self._tokens is not None:
            return _token_holder(self._tokens.verify(credential))
        raise AuthFailed()

    def from_headers(self, headers: Mapping[str, str], *, origin: str | None = None) -> Caller | None:
        """Whoever sent `X-API-Key` or `Authorization: Bearer`; None when neither was sent.

        Args:
            headers: found whatever their case, as Tornado's are.

        Raises:
            AuthFailed: what was sent is not valid.
        """
        credential = headers.get("X-API-Key", "").strip()
        scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
        if not credential and scheme.lower() == "bearer":
            credential = token.strip()
        return self.authenticate(credential, origin=origin) if credential else None

    def recheck(self, caller: Caller) -> None:
        """Asks again, on resume and from time to time.

        Raises:
            AuthFailed: the key or token has been revoked or has expired since.
        """
        if caller.kind == "key" and self._keys.find(caller.fingerprint) is None:
            raise AuthFailed()
        if caller.kind == "token":
            trusted = self._tokens is not None and self._tokens.is_trusted(caller.fingerprint)
            if not trusted or (caller.expires_at is not None and self._clock() >= caller.expires_at):
                raise AuthFailed()

    def issue_ticket(self, caller: Caller, origin: str | None) -> str:
        """A ticket that authenticates as this caller once, within `auth.ticket_lifetime`.

        Args:
            origin: of the page that will use it.
        """
        return self._tickets.issue(caller, origin)

    def reload(self) -> None:
        """Reads the files of keys again, as SIGHUP asks for."""
        self._keys.reload()
        if self._tokens is not None:
            self._tokens.reload()


def _key_holder(key: KeySettings, hashed: str) -> Caller:
    return Caller(
        owner=f"key:{key.name}",
        name=key.name,
        scopes=frozenset(key.scopes),
        shared=key.shared,
        expires_at=None if key.expires_at is None else key.expires_at.timestamp(),
        limits=key.limits,
        kind="key",
        fingerprint=hashed,
    )


def _token_holder(token: Token) -> Caller:
    return Caller(
        owner=f"token:{token.subject}",
        name=token.subject,
        scopes=token.scopes,
        expires_at=token.expires_at,
        kind="token",
        fingerprint=token.kid,
    )
