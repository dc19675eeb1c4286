"""What the handlers call: the parts that `app.py` put together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from tornado_live.access.audit import Audit
from tornado_live.access.identity import Authenticator, Caller
from tornado_live.access.limits import Account, Limiter
from tornado_live.access.origins import OriginPolicy
from tornado_live.access.proxies import TrustedProxies
from tornado_live.access.strangers import StrangerGuard
from tornado_live.audio import StreamFormat
from tornado_live.errors import AuthFailed, Forbidden, LiveError, RateLimited, ShuttingDown
from tornado_live.handlers.arrival import ArrivalOrders
from tornado_live.plugins import CodecRegistry
from tornado_live.sessions.oneshot import OneShot, OneShotResult
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.registry import SessionRegistry
from tornado_live.sessions.session import Session
from tornado_live.settings import Settings
from tornado_live.upstream.gemini import GeminiConnector
from tornado_live.upstream.models import ModelCatalogue

ONE_SHOT = "one-shot"
"""What whole recordings are called in the audit log."""

INSTRUCTIONS = "instructions:custom"
"""The scope that lets a caller send a system instruction."""


class OpenSocket(Protocol):
    """A WebSocket that is open, with a session or without."""

    def leave(self, error: LiveError) -> None:
        """Tells the client why, and closes."""


@dataclass(slots=True)
class Services:
    """One server's parts.

    Attributes:
        engine: what answers, for people: `Gemini`, or the name of the offline demo engine.
        draining: the server is about to stop; new sessions are refused.
    """

    settings: Settings
    authenticator: Authenticator
    strangers: StrangerGuard
    audit: Audit
    origins: OriginPolicy
    proxies: TrustedProxies
    limiter: Limiter
    registry: SessionRegistry
    one_shot: OneShot
    catalogue: ModelCatalogue
    codecs: CodecRegistry
    arrivals: ArrivalOrders
    engine: str
    connector: GeminiConnector
    draining: bool = False
    sockets: set[OpenSocket] = field(default_factory=set)

    def not_ready(self) -> list[str]:
        """What keeps new sessions from being started."""
        reasons = {
            "the server is shutting down": self.draining,
            "the link to the model is still loading": not self.connector.ready,
            "the session store fails": self.registry.store_failing,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def known_by(self, credential: str, address: str, origin: str | None) -> Caller:
        """Whoever holds the credential.

        Raises:
            AuthFailed
            RateLimited: too many wrong ones came from this address.
        """
        with self._counting_failures(address):
            return self.authenticator.authenticate(credential, origin=origin)

    def known_by_headers(self, headers: Mapping[str, str], address: str, origin: str | None) -> Caller:
        """Whoever sent `X-API-Key` or `Authorization`; without either, the anonymous caller.

        Raises:
            AuthRequired: neither was sent, and this server asks for it.
            AuthFailed, RateLimited: as `known_by`.
        """
        with self._counting_failures(address):
            caller = self.authenticator.from_headers(headers, origin=origin)
        return caller if caller is not None else self.authenticator.anonymous()

    @contextmanager
    def _counting_failures(self, address: str) -> Iterator[None]:
        if self.authenticator.required:
            self.strangers.check(address)
        try:
            yield
        except AuthFailed:
            self.strangers.note_failure(address)
            raise

    async def start_session(
        self, caller: Caller, account: Account, address: str, label: str | None, options: SessionOptions
    ) -> Session:
        """As `SessionRegistry.start`, for a caller who may have these options; new ones are audited."""
        if self.draining:
            raise ShuttingDown
        self.check_options(options, caller)
        before = self.registry.get(caller.owner, label) if label is not None else None
        session = await self.registry.start(caller.owner, label, options, account)
        if session is not before:
            self.audit.session_started(caller, address, session.label, model=session.record.served_model)
            session.closed_callbacks.append(lambda closed: self._audit_end(caller, closed))
        return session

    async def transcribe_once(
        self,
        caller: Caller,
        account: Account,
        address: str,
        audio: bytes,
        declared: StreamFormat,
        options: SessionOptions,
    ) -> OneShotResult:
        """As `OneShot.transcribe`; it counts as a session while it lasts, and is audited as one."""
        if self.draining:
            raise ShuttingDown
        self.check_options(options, caller)
        key = secrets.token_hex(16)
        lifetime_s = self.settings.sessions.duration
        started_s = time.monotonic()
        await account.open_session(key, lifetime_s)
        served = self.catalogue.resolve(options.model)[1].name
        self.audit.session_started(caller, address, ONE_SHOT, model=served)
        result = OneShotResult(served)
        try:
            result = await self.one_shot.transcribe(audio, declared, options)
        finally:
            with suppress(RateLimited):
                await account.count_audio(result.seconds, len(audio))
            with suppress(RateLimited):
                await account.count_tokens(result.tokens)
            await account.close_session(key)
            self.audit.session_ended(
                caller,
                ONE_SHOT,
                reason="ended" if result.seconds else "failed",
                duration_ms=int((time.monotonic() - started_s) * 1000),
                audio_ms=int(result.seconds * 1000),
                tokens=result.tokens,
            )
        return result

    def _audit_end(self, caller: Caller, session: Session) -> None:
        record = session.record
        self.audit.session_ended(
            caller,
            session.label,
            reason=record.end_reason or "ended",
            duration_ms=session.now_ms,
            audio_ms=int(session.intake.decoded_s * 1000),
            tokens=record.usage.get("total_tokens", 0),
        )

    def check_options(self, options: SessionOptions, caller: Caller) -> SessionOptions:
        """The options, if this caller may have them.

        Raises:
            UnknownModel
            Forbidden: the caller may not send a system instruction.
        """
        self.catalogue.resolve(options.model)
        allowed = self.settings.gemini.client_system_instruction or INSTRUCTIONS in caller.scopes
        if options.system_instruction is not None and not allowed:
            raise Forbidden("This server does not take system_instruction from this caller.")
        return options
