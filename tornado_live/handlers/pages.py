"""The page at `/` and its files."""

from __future__ import annotations

from typing import Any

from tornado.web import StaticFileHandler

from tornado_live.handlers.base import set_security_headers

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PageHandler(StaticFileHandler):
    """Static files with security headers; the page may load only what this server gives it."""

    def set_default_headers(self) -> None:
        set_security_headers(self)
        self.set_header("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
        self.set_header("Referrer-Policy", "no-referrer")

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("There is nothing at this address.\n" if status_code == 404 else "Not possible.\n")
