"""What one WebSocket client may say, and what it is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from tornado_live.errors import (
    AuthFailed,
    AuthRequired,
    AuthTimeout,
    InactivityTimeout,
    InternalError,
    InvalidField,
    LiveError,
    NoSession,
    RateLimited,
    ResumeRefused,
    SessionExpired,
    SessionNotFound,
    SessionReplaced,
)
from tornado_live.handlers.services import Services
from tornado_live.handlers.socket_identity import SocketIdentity
from tornado_live.sessions.events import Event, Notice
from tornado_live.sessions.intake import Chunk
from tornado_live.sessions.options import SessionOptions, declared_format
from tornado_live.sessions.outbox import Outbox, Render
from tornado_live.sessions.rendering import ended_data, event_frames, live_data
from tornado_live.sessions.session import Session
from tornado_live.wire import replies
from tornado_live.wire.audio_data import decode_audio_data
from tornado_live.wire.requests import (
    MAX_TEXT_CHARS,
    Ack,
    ActivityEnd,
    ActivityStart,
    AudioChunk,
    Auth,
    Cancel,
    EndSession,
    ExtendSession,
    Flush,
    GetRateLimits,
    GetStatus,
    Hello,
    Playback,
    Resume,
    StartSession,
    Text,
    check_session_id,
    parse_message,
)

log = logging.getLogger(__name__)

DEAF_S = 1.0
"""How long nothing is read of a client that is being closed for having sent too much."""

_ERROR_TYPES: dict[type[LiveError], str] = {
    AuthFailed: "auth_failed",
    AuthRequired: "auth_required",
    AuthTimeout: "auth_timeout",
    InactivityTimeout: "inactivity_timeout",
    RateLimited: "rate_limit_exceeded",
    SessionExpired: "session_expired",
    SessionReplaced: "replaced",
}
"""The message types of errors that have one of their own."""


class LiveConnection:
    """One client's side of the wire, over whatever carries its frames.

    Args:
        outbox: takes what is to be sent.
        close_with: closes the socket after what waits has been written; None: done.
    """

    observer = False

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        close_with: Callable[[LiveError | None], None],
        *,
        address: str,
        origin: str | None,
    ) -> None:
        self._services = services
        self._outbox = outbox
        self._close_with = close_with
        self._address = address
        self._identity = SocketIdentity(services, address, origin, self._identity_lost)
        self._session: Session | None = None
        self._render: Render | None = None
        self._binary = False
        self._closed = False
        self._closing = False

    # The socket

    def open(self, headers: Mapping[str, str], ticket: str | None) -> None:
        """The socket is there; a key, token or ticket may have come with the upgrade."""
        try:
            self._identity.open(headers, ticket)
        except LiveError as exc:
            self._identity_lost(exc)

    def close(self) -> None:
        """The socket is gone; the session stays for a while."""
        self._closed = True
        self._identity.close()
        if self._session is not None:
            self._session.release_uplink(self)
            self._session.detach(self)

    def receive(self, frame: str | bytes) -> Awaitable[None] | None:
        """Takes one frame; where the answer takes time, the next frame is read after it."""
        if self._closing:
            return asyncio.sleep(DEAF_S)
        gate = self._identity.gate
        try:
            if not gate.admit_message():
                return asyncio.sleep(gate.pause_s)
            if isinstance(frame, bytes):
                self._binary_chunk(frame)
                return None
            return self._dispatch(frame)
        except LiveError as exc:
            self.tell(exc)
            if isinstance(exc, RateLimited) and gate.exhausted:
                self._closing = True
                self._close_with(exc)
        return None

    def admit_ping(self) -> bool:
        """False: nobody needs that many pings."""
        return self._identity.gate.admit_ping()

    def leave(self, error: LiveError) -> None:
        """The server has no more time for this client (OpenSocket)."""
        if not self._closing:
            self._closing = True
            self.tell(error)
            self._close_with(error)

    def tell(self, error: LiveError) -> None:
        """An `error` message; the socket stays open."""
        kind = _ERROR_TYPES.get(type(error), "error")
        self._answer(kind, **replies.error_fields(error))

    # What the session says (Attachment)

    def deliver(self, event: Event) -> None:
        if self._render is not None:
            self._outbox.put_event(event, self._render)

    def session_closed(self, error: LiveError | None) -> None:
        session = self._session
        self._belong_to(None)
        if session is None:
            return
        if error is None:
            self._send("session_ended", session_id=session.label, data=ended_data(session.record))
            return
        kind = _ERROR_TYPES.get(type(error), "error")
        self._send(
            kind, session_id=session.label, data=ended_data(session.record), **replies.error_fields(error)
        )
        self._close_with(error)

    # Messages

    def _dispatch(self, frame: str) -> Awaitable[None] | None:
        match parse_message(frame):
            case AudioChunk() as chunk:
                self._audio_chunk(chunk)
            case StartSession() as start:
                return self._guard(self._start(start))
            case EndSession():
                return self._guard(self._end())
            case Auth() as auth:
                self._authenticate(auth)
            case Hello() as hello:
                self._hello(hello)
            case GetStatus():
                return self._guard(self._status())
            case GetRateLimits():
                return self._guard(self._rate_limits())
            case Text(text):
                self._text(text)
            case Flush():
                self._require_session().end_utterance()
            case Cancel():
                self._require_session().cancel_reply()
            case Playback(turn_id, played_ms):
                self._require_session().played(turn_id, played_ms)
            case ActivityStart():
                self._manual_session().activity_start()
            case ActivityEnd():
                self._manual_session().activity_end()
            case Ack(seq):
                self._require_session().acknowledge(seq)
            case Resume() as resume:
                return self._guard(self._resume(resume))
            case ExtendSession():
                self._extend()
        return None

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except LiveError as exc:
            self.tell(exc)
        except Exception:
            log.exception("message_failed")
            self.tell(InternalError())

    def _hello(self, hello: Hello) -> None:
        services = self._services
        self._binary = hello.binary
        self._belong_to(self._session)
        self._send(
            "connected",
            data={
                "protocolVersion": replies.PROTOCOL_VERSION,
                "engine": services.engine,
                "authRequired": not self._identity.known,
                "formats": sorted(loaded.codec.name for loaded in services.codecs.codecs),
                "models": list(services.catalogue.names),
                "limits": {
                    "maxMessageBytes": services.settings.server.max_message,
                    "sessionDurationMs": int(services.settings.sessions.duration * 1000),
                    "idleTimeoutMs": int(services.settings.sessions.idle_timeout * 1000),
                },
            },
        )

    def _authenticate(self, auth: Auth) -> None:
        try:
            caller = self._identity.authenticate(auth.credential)
        except AuthFailed as exc:
            self._identity_lost(exc)
        else:
            self._send("auth_success", message="You are known.", user={"name": caller.name})

    async def _start(self, start: StartSession) -> None:
        caller, account = self._identity.caller, self._identity.account
        label = check_session_id(start.session_id) if start.session_id else None
        options = SessionOptions.from_fields(start)
        session = await self._services.start_session(caller, account, self._address, label, options)
        self._leave()
        token = await session.new_resume_token()
        session.attach(self)
        if self._closed:
            session.detach(self)
            return
        self._belong_to(session)
        session.touch()
        data = self._attached_data(session, token)
        self._send("session_started", session_id=session.label, data=data)

    async def _resume(self, resume: Resume) -> None:
        """Only the newest token's holder comes back; anything else looks like no session at all."""
        caller = self._identity.recheck()
        label = check_session_id(resume.session_id)
        self._leave()
        try:
            session = await self._services.registry.find(caller.owner, label, self._identity.account)
            resumption = await session.resume(self, resume.resume_token, resume.last_seq)
        except SessionNotFound:
            raise ResumeRefused from None
        if self._closed:
            session.detach(self)
            return
        self._belong_to(session)
        gap = resumption.gap
        data = self._attached_data(session, resumption.token) | {
            "replayed": len(resumption.missed),
            "gap": {"from": gap[0], "to": gap[1]} if gap is not None else None,
        }
        self._send("resumed", session_id=session.label, data=data)
        for event in resumption.missed:
            self.deliver(event)

    def _belong_to(self, session: Session | None) -> None:
        self._session = session
        # one for all events: it stands in the outbox with each of them
        self._render = partial(event_frames, session, binary=self._binary) if session is not None else None

    def _attached_data(self, session: Session, token: str) -> dict[str, Any]:
        return live_data(session) | {"resumeToken": token, "epoch": session.record.epoch}

    def _extend(self) -> None:
        session = self._require_session()
        sessions = self._services.settings.sessions
        session.extend(sessions.extend_by, sessions.max_duration)
        expires_at = replies.timestamp(session.record.expires_at)
        session.announce(Notice("session_extended", {"expiresAt": expires_at}))

    async def _end(self) -> None:
        session = self._require_session()
        await self._services.registry.end(session.record.owner, session.label)

    async def _status(self) -> None:
        session = self._require_session()
        data = live_data(session)
        data["rateLimits"] = await self._identity.account.status()
        self._answer("session_status", session_id=session.label, data=data)

    async def _rate_limits(self) -> None:
        data = await self._identity.account.status()
        self._answer("rate_limit_status", data=data)

    def _text(self, text: str) -> None:
        if not text.strip() or len(text) > MAX_TEXT_CHARS:
            raise InvalidField(f"text must be 1 to {MAX_TEXT_CHARS} characters.")
        self._require_session().send_text(text)

    def _audio_chunk(self, message: AudioChunk) -> None:
        session = self._require_session()
        declared = declared_format(message, session.options.stream)
        self._feed(session, Chunk(decode_audio_data(message.audio_data), declared, message.seq))

    def _binary_chunk(self, data: bytes) -> None:
        session = self._require_session()
        if data:
            self._feed(session, Chunk(data, session.options.stream))

    def _feed(self, session: Session, chunk: Chunk) -> None:
        session.claim_uplink(self)
        session.feed(chunk)
        chunk.done.add_done_callback(self._chunk_done)

    def _chunk_done(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and isinstance(error := done.exception(), LiveError):
            self.tell(error)

    # Who it is

    def _require_session(self) -> Session:
        if self._session is None:
            self._identity.require()
            raise NoSession
        return self._session

    def _manual_session(self) -> Session:
        session = self._require_session()
        if session.options.turn_detection != "manual":
            raise InvalidField('activity_start and activity_end need turn_detection "manual" at start.')
        return session

    def _leave(self) -> None:
        """A new session begins on this connection; the one before it stays, detached."""
        if self._session is not None:
            self._session.release_uplink(self)
            self._session.detach(self)
            self._belong_to(None)

    def _identity_lost(self, error: LiveError) -> None:
        """Nobody authenticated, or the credential is not good (any more): the socket is closed."""
        self._services.audit.refused(error, None, self._address, action="websocket")
        self.tell(error)
        self._close_with(error)

    def _answer(self, kind: str, session_id: str | None = None, **fields: object) -> None:
        """Overtakes the conversation that waits to be written."""
        if not self._closed:
            self._outbox.put_first(replies.encode(replies.message(kind, session_id, **fields)))

    def _send(self, kind: str, session_id: str | None = None, **fields: object) -> None:
        if not self._closed:
            self._outbox.put(replies.encode(replies.message(kind, session_id, **fields)))
