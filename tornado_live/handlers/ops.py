"""For operators and load balancers: is it alive, is it ready, what does it speak."""

from __future__ import annotations

from tornado.web import RequestHandler

from tornado_live.handlers.base import BaseHandler, set_security_headers
from tornado_live.handlers.services import Services
from tornado_live.wire import openapi, replies


class LiveProbeHandler(RequestHandler):
    """`GET /livez`: the process answers; nothing else is said."""

    def set_default_headers(self) -> None:
        set_security_headers(self)

    def get(self) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(replies.encode({"status": "ok"}))


class ReadyProbeHandler(RequestHandler):
    """`GET /readyz`: 200 when new sessions can be started, else 503 with what is missing."""

    def initialize(self, services: Services) -> None:
        self.services = services

    def set_default_headers(self) -> None:
        set_security_headers(self)

    def get(self) -> None:
        missing = self.services.not_ready()
        self.set_status(503 if missing else 200)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(replies.encode({"status": "not_ready" if missing else "ready", "missing": missing}))


class OpenApiHandler(BaseHandler):
    """`GET /api/v1/openapi.json`."""

    needs_auth = False

    def get(self) -> None:
        self.finish(replies.encode(openapi.description()))
