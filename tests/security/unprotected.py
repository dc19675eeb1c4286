"""The same addresses as people often write them, with nothing in the way: what the attacks are shown on.

Every attack of this folder runs against this server too, and must succeed here: a test that cannot
fail proves nothing.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from callers import JOHN, MARY
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

KEYS = {MARY: "mary", JOHN: "john"}
REQUESTS_PER_ADDRESS = 5


class UnprotectedServer:
    """Tornado's defaults, one dict of sessions, keys wherever they are found.

    Attributes:
        setups: what "the model" was asked for, a copy of each start message.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sessions: dict[str, dict[str, Any]] = {}
        self.setups: list[dict[str, Any]] = []
        self.requests: Counter[str] = Counter()
        self.limit_addresses = False
        self.open_to_all = False
        application = Application(
            [
                (r"/api/v1/live-audio/session/start", Start, {"server": self}),
                (r"/api/v1/live-audio/session/end", End, {"server": self}),
                (r"/api/v1/live-audio/session/(.+)/(status|transcript)", Status, {"server": self}),
                (r"/api/v1/live-audio/sessions", Sessions, {"server": self}),
                (r"/api/v1/live-audio/transcribe", Transcribe, {"server": self}),
                (r"/ws/live-audio", Socket, {"server": self}),
                (r"/metrics", Metrics, {"server": self}),
                (r"/livez", Health, {"server": self}),
            ]
        )
        self._http = HTTPServer(application, xheaders=True)
        sockets = bind_sockets(0, "127.0.0.1")
        self._http.add_sockets(sockets)
        self.port: int = sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._http.stop()
        await self._http.close_all_connections()


class Base(RequestHandler):
    def initialize(self, server: UnprotectedServer) -> None:
        self.server = server

    def set_default_headers(self) -> None:
        self.set_header("Access-Control-Allow-Origin", self.request.headers.get("Origin", "*"))
        self.set_header("Access-Control-Allow-Credentials", "true")
        self.set_header("Access-Control-Allow-Headers", "*")

    def prepare(self) -> None:
        key = self.request.headers.get("X-API-Key") or self.get_query_argument("api_key", "")
        if self.server.limit_addresses:
            address = self.request.remote_ip or ""
            self.server.requests[address] += 1
            if self.server.requests[address] > REQUESTS_PER_ADDRESS:
                raise HTTPError(429)
        if self.request.method != "OPTIONS" and key not in KEYS and not self.server.open_to_all:
            raise HTTPError(401, reason=f"Unknown key {key}")

    def options(self, *args: str) -> None:
        self.set_status(204)

    @property
    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.request.body)
        return body


class Health(RequestHandler):
    def initialize(self, server: UnprotectedServer) -> None:
        pass

    def get(self) -> None:
        self.finish({"status": "ok"})


class Start(Base):
    def post(self) -> None:
        label = self.json["session_id"]
        self.server.sessions[label] = {"sessionId": label, "status": "active", "words": []}
        self.server.setups.append(self.json)
        (self.server.folder / "sessions" / label).write_text("started")
        self.finish({"success": True, "session_id": label, "data": self.server.sessions[label]})


class End(Base):
    def post(self) -> None:
        session = self.server.sessions[self.json["session_id"]]
        self.finish({"success": True, "data": session})


class Status(Base):
    def get(self, label: str, what: str) -> None:
        if label not in self.server.sessions:
            raise HTTPError(404)
        self.finish({"success": True, "data": self.server.sessions[label]})


class Sessions(Base):
    def get(self) -> None:
        self.finish({"success": True, "data": {"sessions": list(self.server.sessions.values())}})


class Transcribe(Base):
    def post(self) -> None:
        audio = base64.b64decode(self.json["audio_data"])
        self.server.sessions[self.json["session_id"]]["words"].append(len(audio))
        self.finish({"success": True, "inputTranscription": "words"})


class Metrics(Base):
    def prepare(self) -> None:
        pass

    def get(self) -> None:
        self.finish("\n".join(f'sessions{{id="{label}"}} 1' for label in self.server.sessions))


class Socket(WebSocketHandler):
    def initialize(self, server: UnprotectedServer) -> None:
        self.server = server

    def get_compression_options(self) -> dict[str, Any]:
        return {}

    def on_message(self, message: str | bytes) -> None:
        fields = json.loads(message)
        if fields["type"] == "start_session":
            label = fields.get("session_id", "session")
            self.server.setups.append(fields)
            self.server.sessions[label] = fields
            self.write_message({"type": "session_started", "session_id": label})
        elif fields["type"] == "text":
            for _ in range(200):
                self.write_message({"type": "audio_output", "data": "A" * 65_536})
        else:
            self.write_message({"type": "rate_limit_status", "at": time.time()})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish("no")


def start_unprotected(io_loop: IOLoop, folder: Path) -> UnprotectedServer:
    (folder / "sessions").mkdir()

    async def start() -> UnprotectedServer:
        return UnprotectedServer(folder)

    return io_loop.run_sync(start)
