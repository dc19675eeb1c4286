"""What all HTTP answers have in common: who asks, CORS, body bounds, JSON, errors."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from tornado_live.access.identity import Caller
from tornado_live.access.limits import Account
from tornado_live.errors import (
    AccessError,
    InternalError,
    LiveError,
    MethodNotAllowed,
    OriginRefused,
    PathNotFound,
    RequestError,
    TooLarge,
)
from tornado_live.handlers.services import Services
from tornado_live.wire import replies
from tornado_live.wire.requests import EndBody, StartBody, TranscribeBody, parse_body

log = logging.getLogger(__name__)

Body = TypeVar("Body", StartBody, TranscribeBody, EndBody)


def remote_address(services: Services, request: HTTPServerRequest) -> str:
    """The client's address: the peer's, or what a trusted proxy says of it."""
    return services.proxies.client_address(request.remote_ip or "", request.headers.get("X-Forwarded-For"))


def origin_allowed(services: Services, request: HTTPServerRequest, *, has_credential: bool) -> bool:
    """Whether the page that sends this request may: it is on the list, or is this server's own."""
    origin = request.headers.get("Origin")
    if services.origins.allows(origin, has_credential=has_credential):
        return True
    own = origin is not None and origin.partition("://")[2] == request.host
    return own and (services.authenticator.required or services.origins.allows_host(request.host))


def request_allowed(services: Services, request: HTTPServerRequest) -> bool:
    """Whether a REST call may be served: no page sends it, or one that may.

    A page whose name was pointed at this machine sends its GETs without an origin; where there is no
    authentication, their `Host` gives them away.
    """
    if request.headers.get("Origin") is not None:
        return origin_allowed(services, request, has_credential=True)
    auth = services.settings.auth
    open_to_all = services.authenticator.required or auth.allow_public_without_auth
    return open_to_all or services.origins.allows_host(request.host)


def set_security_headers(handler: RequestHandler) -> None:
    """What every answer says besides itself. Over TLS: come back over TLS only (RFC 6797 section 7.2).

    Not on `localhost`, where it would bind whatever else listens there.
    """
    handler.clear_header("Server")
    handler.set_header("X-Content-Type-Options", "nosniff")
    if handler.request.protocol == "https" and handler.request.host_name != "localhost":
        handler.set_header("Strict-Transport-Security", "max-age=31536000")


@stream_request_body
class BaseHandler(RequestHandler):
    """A handler under `/api`: every answer, errors too, is JSON with CORS headers.

    Bodies are streamed, so that their size is bounded before they are read; `body` is complete when
    the method runs.
    """

    caller: Caller
    account: Account
    needs_auth = True

    def initialize(self, services: Services) -> None:
        self.services = services
        self.body = bytearray()
        self._overfull = False

    @property
    def max_body_bytes(self) -> int:
        return self.services.settings.server.max_body

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        set_security_headers(self)
        services: Services | None = getattr(self, "services", None)
        if services is not None:
            self._set_cors_headers()

    def _set_cors_headers(self) -> None:
        for name, value in self.services.origins.cors_headers(self.request.headers.get("Origin")).items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        self._set_cors_headers()
        length = self.request.headers.get("Content-Length", "0")
        if length.isdigit() and int(length) > self.max_body_bytes:
            raise self._too_large()
        if self.request.method == "OPTIONS":
            return
        if not request_allowed(self.services, self.request):
            raise OriginRefused
        if self.needs_auth:
            self.caller = self.services.known_by_headers(
                self.request.headers, self.address, self.request.headers.get("Origin")
            )
            self.account = self.services.limiter.account(self.caller, self.address)
            self.arrived()
            await self.account.count_request()
            for name, value in self.account.headers().items():
                self.set_header(name, value)

    def arrived(self) -> None:
        """Called when it is known who asks, before anything else gets its turn."""

    @property
    def address(self) -> str:
        return remote_address(self.services, self.request)

    def data_received(self, chunk: bytes) -> None:
        if len(self.body) + len(chunk) <= self.max_body_bytes:
            self.body += chunk
        else:
            # Raised when the whole body is there: an answer now would never be read.
            self._overfull = True

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self.max_body_bytes} bytes that this address accepts.")

    def parse(self, kind: type[Body]) -> Body:
        if self._overfull:
            raise self._too_large()
        return parse_body(bytes(self.body), kind)

    def options(self, *args: str) -> None:
        self.set_status(204)
        self.clear_header("Content-Type")

    async def answer(self, **fields: Any) -> None:
        """Writes `{"success": true, …}`. Raises StreamClosedError when the client has gone."""
        await self.finish(replies.encode({"success": True, **fields}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = _as_live_error(status_code, kwargs.get("exc_info", (None, None, None))[1])
        if isinstance(error, AccessError):
            self.services.audit.refused(
                error, getattr(self, "caller", None), self.address, action=type(self).__name__
            )
        self.set_status(error.status)
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self._own_methods()))
        account: Account | None = getattr(self, "account", None)
        for name, value in account.headers().items() if account is not None else ():
            self.set_header(name, value)
        if error.retry_after_s is not None:
            self.set_header("Retry-After", str(max(1, round(error.retry_after_s))))
        self.finish(replies.encode(replies.error_body(error) | self.error_data(error)))

    def _own_methods(self) -> list[str]:
        names = [(name, name.lower()) for name in self.SUPPORTED_METHODS]
        return [
            name
            for name, attribute in names
            if getattr(type(self), attribute) is not getattr(RequestHandler, attribute)
        ]

    def error_data(self, error: LiveError) -> dict[str, Any]:
        """Further fields of an error's body."""
        return {}

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        super().send_error(error.status if isinstance(error, LiveError) else status_code, **kwargs)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if isinstance(value, StreamClosedError):
            log.info("client_gone", extra={"path": self.request.path})
        elif isinstance(value, LiveError) and not isinstance(value, InternalError):
            log.info("refused", extra={"path": self.request.path, "code": value.code})
        else:
            super().log_exception(typ, value, tb)


def _as_live_error(status_code: int, raised: BaseException | None) -> LiveError:
    if isinstance(raised, LiveError):
        return raised
    if status_code == 404:
        return PathNotFound()
    if status_code == 405:
        return MethodNotAllowed()
    if isinstance(raised, HTTPError) and 400 <= status_code < 500:
        return RequestError()
    return InternalError()


class NotFoundHandler(BaseHandler):
    """Every address that is none: JSON below `/api`, and elsewhere too."""

    needs_auth = False

    async def prepare(self) -> None:
        self._set_cors_headers()
        if self.request.method != "OPTIONS":
            raise PathNotFound
