"""A server that speaks the wire and hears nothing: for tests of the clients.

It answers every utterance with what it received, in numbers, and keeps a journal. `Script` makes it
misbehave.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from tornado.web import Application, RedirectHandler, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

from tornado_live.web import static_path

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass
class Script:
    """What the server does beyond the plain case, and what it has seen.

    Attributes:
        key: the API key that is wanted; None: none.
        refuse_start: an `error` message that answers every start.
        refuse_audio: an `error` message that answers every binary frame.
        cut_after_bytes: the connection is dropped, once, when a session has sent so much.
        utterances: the bytes after which the server by itself ends an exchange, one after the other.
        connections, sessions, messages, audio: what has come.
        journal: the types of all frames in order, `audio` for binary ones.
    """

    key: str | None = None
    refuse_start: dict[str, Any] | None = None
    refuse_audio: dict[str, Any] | None = None
    cut_after_bytes: int | None = None
    utterances: list[int] = field(default_factory=list)
    models: tuple[str, ...] = ("model-a", "model-b")
    audio_reply: bytes | None = None
    start_time: str = "2026-01-01T00:00:00.000Z"
    sockets: list[WebSocketHandler] = field(default_factory=list)
    connections: int = 0
    sessions: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    journal: list[str] = field(default_factory=list)


class LiveHandler(WebSocketHandler):
    def initialize(self, script: Script) -> None:
        self.script = script
        self.authenticated = script.key is None
        self.session_id: str | None = None
        self.turn = 0
        self.heard = 0

    def open(self) -> None:
        self.script.connections += 1
        self.script.sockets.append(self)

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.script.journal.append("audio")
            self.on_audio(message)
            return
        parsed = json.loads(message)
        self.script.messages.append(parsed)
        self.script.journal.append(parsed["type"])
        getattr(self, "on_" + parsed["type"])(parsed)

    def on_hello(self, message: dict[str, Any]) -> None:
        data = {
            "protocolVersion": 1,
            "engine": "offline demo engine",
            "authRequired": self.script.key is not None,
            "models": list(self.script.models),
        }
        self.say("connected", data)

    def on_auth(self, message: dict[str, Any]) -> None:
        if message["token"] == self.script.key or self.script.key is None:
            self.authenticated = True
            self.write_message({"type": "auth_success", "message": "Welcome.", "user": "test"})
        else:
            self.write_message({"type": "auth_failed", "error": "The key or token is not valid."})

    def on_start_session(self, message: dict[str, Any]) -> None:
        if not self.authenticated:
            self.write_message(
                {"type": "error", "code": "auth_required", "error": "Authentication is needed."}
            )
        elif self.script.refuse_start:
            self.write_message(self.script.refuse_start)
        else:
            self.script.sessions += 1
            self.session_id = message.get("session_id", f"session_{self.script.sessions}")
            model = message.get("model", self.script.models[-1])
            self.say(
                "session_started", {"status": "active", "startTime": self.script.start_time, "model": model}
            )

    def on_text(self, message: dict[str, Any]) -> None:
        self.turn += 1
        self.result(message["text"], "You wrote: " + message["text"], final=True)

    def on_audio(self, chunk: bytes) -> None:
        script = self.script
        if script.refuse_audio:
            self.write_message(script.refuse_audio)
            return
        script.audio += chunk
        if script.cut_after_bytes is not None and len(script.audio) >= script.cut_after_bytes:
            script.cut_after_bytes = None
            cut(self)
            return
        if not self.heard:
            self.turn += 1
        self.heard += len(chunk)
        self.result(f"{self.heard} bytes so far", None, final=False)
        if script.utterances and self.heard >= script.utterances[0]:
            script.utterances.pop(0)
            self.on_flush({})

    def on_flush(self, message: dict[str, Any]) -> None:
        if self.heard:
            self.result(f"{self.heard} bytes", "You spoke.", final=True)
            self.heard = 0

    def on_end_session(self, message: dict[str, Any]) -> None:
        self.on_flush({})
        self.say("session_ended", {"status": "ended", "duration": 1})

    def result(self, said: str, reply: str | None, *, final: bool) -> None:
        data = {
            "turnId": f"t{self.turn}",
            "final": final,
            "inputTranscription": said,
            "outputTranscription": None,
            "transcript": reply,
            "audioBuffer": None,
        }
        if final and self.script.audio_reply is not None:
            data["audioBuffer"] = base64.b64encode(self.script.audio_reply).decode("ascii")
        self.say("transcription_result", data)

    def say(self, kind: str, data: dict[str, Any]) -> None:
        message = {"type": kind, "data": data}
        if self.session_id is not None:
            message["session_id"] = self.session_id
        self.write_message(message)


def cut(socket: WebSocketHandler) -> None:
    """Drops the connection without a word, as a network does."""
    assert socket.ws_connection is not None
    socket.ws_connection.stream.close()


class RestHandler(RequestHandler):
    """Answers every call with what it received; a `/session/none/...` does not exist."""

    def initialize(self, script: Script) -> None:
        self.script = script

    def get(self, call: str) -> None:
        self.answer(call, {})

    def post(self, call: str) -> None:
        self.answer(call, json.loads(self.request.body))

    def answer(self, call: str, body: dict[str, Any]) -> None:
        if self.script.key and self.request.headers.get("X-API-Key") != self.script.key:
            self.set_status(401)
            self.write({"success": False, "error": "The key or token is not valid.", "code": "auth_failed"})
        elif call == "session/none/status":
            self.set_status(404)
            self.write(
                {"success": False, "error": "There is no session with this id.", "code": "session_not_found"}
            )
        elif call == "session/broken/status":
            self.write("<html>a proxy's page</html>")
        else:
            self.write({"success": True, "call": call, "body": body})


class PageHandler(StaticFileHandler):
    def set_extra_headers(self, path: str) -> None:
        self.set_header("Content-Security-Policy", CSP)


def make_app(script: Script) -> Application:
    static = str(static_path())
    return Application(
        [
            (r"/ws/live-audio", LiveHandler, {"script": script}),
            (r"/api/v1/live-audio/(.*)", RestHandler, {"script": script}),
            (r"/static/(.*)", PageHandler, {"path": static}),
            (r"/index\.html", RedirectHandler, {"url": "/"}),
            (r"/()", PageHandler, {"path": static, "default_filename": "index.html"}),
        ]
    )
