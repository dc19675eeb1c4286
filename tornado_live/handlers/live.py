"""`/ws/live-audio`: the WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, Final

from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

from tornado_live.errors import InternalError, LiveError, OriginRefused, RateLimited, RequestError, TooLarge
from tornado_live.handlers.base import origin_allowed, remote_address
from tornado_live.handlers.connection import LiveConnection
from tornado_live.handlers.services import Services
from tornado_live.sessions.outbox import Outbox
from tornado_live.wire import replies

log = logging.getLogger(__name__)

CLOSE_GRACE_S: Final = 1.0


class LiveHandler(WebSocketHandler):
    """Moves frames between a socket and its `LiveConnection`."""

    connection: LiveConnection

    def initialize(self, services: Services) -> None:
        self.services = services

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    async def prepare(self) -> None:
        """The origin is checked whatever `Sec-Fetch-Site` says: Tornado does not ask `check_origin` then."""
        headers = self.request.headers
        has_credential = (
            not self.services.authenticator.required or "X-API-Key" in headers or "Authorization" in headers
        )
        origin = headers.get("Origin") or headers.get("Sec-WebSocket-Origin")
        if origin is not None and not origin_allowed(
            self.services, self.request, has_credential=has_credential
        ):
            self._refuse_upgrade(OriginRefused())

    def check_origin(self, origin: str) -> bool:
        return True  # `prepare` has decided

    def get_compression_options(self) -> None:
        """None: audio does not compress, and it costs 150 KiB a connection."""
        return

    async def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self.outbox = Outbox(self._write, self._close_with)
        self.connection = LiveConnection(
            self.services,
            self.outbox,
            self._close_with,
            address=remote_address(self.services, self.request),
            origin=self.request.headers.get("Origin"),
        )
        self.services.sockets.add(self.connection)
        self.connection.open(self.request.headers, self.get_query_argument("ticket", None))

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        if len(message) > self.services.settings.server.max_message:
            self.connection.leave(TooLarge())
            return None
        try:
            return self.connection.receive(message)
        except Exception:
            log.exception("message_failed")
            self.connection.tell(InternalError())
            return None

    def on_close(self) -> None:
        if hasattr(self, "connection"):
            self.services.sockets.discard(self.connection)
            self.connection.close()
            self.outbox.close()

    async def _write(self, frame: str | bytes) -> None:
        try:
            await self.write_message(frame, binary=isinstance(frame, bytes))
        except (WebSocketClosedError, StreamClosedError):
            self.outbox.close()

    def _close_with(self, error: LiveError | None) -> None:
        """Says why, where there is a reason, then closes; what was to be written before it, is."""
        IOLoop.current().spawn_callback(self._close_after_writes, error)

    async def _close_after_writes(self, error: LiveError | None) -> None:
        await self.outbox.drained()
        protocol = self.ws_connection
        if error is None:
            self.close(1000)
        else:
            self.close(error.close_code, error.code)
        if isinstance(protocol, WebSocketProtocol13):
            # A client that does not answer the close frame is not waited for.
            IOLoop.current().call_later(CLOSE_GRACE_S, protocol.stream.close)

    def on_ping(self, data: bytes) -> None:
        if not self.connection.admit_ping():
            self.connection.leave(RateLimited("Too many pings; one every 20 seconds is enough."))

    def _refuse_upgrade(self, error: LiveError) -> None:
        self.services.audit.refused(
            error, None, remote_address(self.services, self.request), action="upgrade"
        )
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(replies.encode(replies.error_body(error)))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(replies.encode(replies.error_body(RequestError("This address speaks WebSocket."))))
