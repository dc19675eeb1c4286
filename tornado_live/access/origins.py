"""Which web pages may use the server (RFC 6454, Fetch standard: CORS)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from tornado_live.errors import SettingsError
from tornado_live.settings import CorsSettings

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_ALLOWED_METHODS = "GET, POST, OPTIONS"
_ALLOWED_HEADERS = "Content-Type, X-API-Key, Authorization, Last-Event-ID"
_EXPOSED_HEADERS = "Retry-After, RateLimit, RateLimit-Policy"


class OriginPolicy:
    """An exact allow list of origins: scheme, host and port, compared as browsers write them.

    What `Sec-Fetch-Site` says counts for nothing: it is the browser's word on its own idea of a site,
    and the list is the operator's.

    Args:
        settings: its `origins` may have capitals or a default port; `*` allows every page and goes
            only without credentials.
        own: further origins: the server's own addresses, which its page comes from.

    Raises:
        SettingsError: an entry is not an origin, or `*` is combined with credentials.
    """

    def __init__(self, settings: CorsSettings, *, own: Iterable[str] = ()) -> None:
        if "*" in settings.origins and settings.credentials:
            raise SettingsError(["cors.origins: * cannot be combined with cors.credentials"])
        self._any = "*" in settings.origins
        self._credentials = settings.credentials
        self._max_age_s = int(settings.max_age)
        self._origins = frozenset(normalise(origin) for origin in (*settings.origins, *own) if origin != "*")

    def allows(self, origin: str | None, *, has_credential: bool) -> bool:
        """Whether a request with this `Origin` header may be served.

        Args:
            origin: as sent; None when the header is missing, so that no page sent it.
            has_credential: the request shows by itself that it may come in: a key or token in a header,
                or a server that asks for none. Without an origin, only this counts.
        """
        if origin is None:
            return has_credential
        return self._any or origin in self._origins

    def cors_headers(self, origin: str | None) -> dict[str, str]:
        """The headers of an answer, errors and preflights included.

        `Vary: Origin` always, so that no cache gives one page's answer to another.
        """
        headers = {"Vary": "Origin"}
        if origin is None or not self.allows(origin, has_credential=False):
            return headers
        headers["Access-Control-Allow-Origin"] = "*" if self._any else origin
        headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
        headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
        headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        headers["Access-Control-Max-Age"] = str(self._max_age_s)
        if self._credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def allows_host(self, host: str) -> bool:
        """Whether a `Host` header names this machine or an allowed origin.

        For a server without authentication: a page whose own name was pointed at this machine (DNS
        rebinding) is of the same origin in the browser's eyes, and its GET requests carry no `Origin`.
        """
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if name in _LOOPBACK_NAMES:
            return True
        authority = f"{name}:{port}" if port else name
        return any(origin.partition("://")[2] == authority for origin in self._origins)


def normalise(origin: str) -> str:
    """The origin as browsers serialise it (RFC 6454 §6.2): lower case, ASCII, no default port.

    Raises:
        SettingsError: it is not scheme://host[:port].
    """
    problem = SettingsError([f"cors.origins: {origin!r} is not an origin; write https://example.org"])
    try:
        parts = urlsplit(origin)
        name, port = parts.hostname, parts.port
        if not name or not _SCHEME.fullmatch(parts.scheme) or "@" in parts.netloc:
            raise problem
        if parts.path or parts.query or parts.fragment or "*" in name:
            raise problem
        if not name.isascii():  # browsers send the xn-- form, and which one it is they alone decide
            raise problem
    except ValueError:
        raise problem from None
    host = f"[{name}]" if ":" in name else name
    with_port = port is not None and port != _DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}:{port}" if with_port else f"{parts.scheme}://{host}"
