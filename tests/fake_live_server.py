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
class FakeSession:
    """What outlives a connection."""

    id: str
    model: str
    turn: int = 0
    heard: int = 0
    next_chunk: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Script:
    """What the server does beyond the plain case, and what it has seen.

    Attributes:
        key: the API key that is wanted; None: none.
        refuse_start: an `error` message that answers every start.
        refuse_audio: an `error` message that answers every binary frame.
        refuse_resume: nothing can be resumed.
        cut_after_bytes: the connection is dropped, once, when so much audio has come.
        utterances: the bytes after which the server by itself ends an exchange, one after the other.
        sockets, sessions, messages, audio: what has come; audio without what came twice.
        journal: the types of all frames in order, `audio` for binary ones.
    """

    key: str | None = None
    refuse_start: dict[str, Any] | None = None
    refuse_audio: dict[str, Any] | None = None
    refuse_resume: bool = False
    cut_after_bytes: int | None = None
    utterances: list[int] = field(default_factory=list)
    models: tuple[str, ...] = ("model-a", "model-b")
    audio_reply: bytes | None = None
    start_time: str = "2026-01-01T00:00:00.000Z"
    sockets: list[WebSocketHandler] = field(default_factory=list)
    sessions: dict[str, FakeSession] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    journal: list[str] = field(default_factory=list)


class LiveHandler(WebSocketHandler):
    session: FakeSession

    def initialize(self, script: Script) -> None:
        self.script = script
        self.authenticated = script.key is None

    def open(self) -> None:
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
        self.write_message({"type": "connected", "data": data})

    def on_auth(self, message: dict[str, Any]) -> None:
        if message["token"] == self.script.key or self.script.key is None:
            self.authenticated = True
            self.write_message({"type": "auth_success", "message": "Welcome.", "user": "test"})
        else:
            self.write_message({"type": "auth_failed", "error": "The key or token is not valid."})

    def on_start_session(self, message: dict[str, Any]) -> None:
        sessions = self.script.sessions
        if not self.authenticated:
            self.refuse("auth_required", "Authentication is needed.")
        elif self.script.refuse_start:
            self.write_message(self.script.refuse_start)
        else:
            name = message.get("session_id", f"session_{len(sessions) + 1}")
            model = message.get("model", self.script.models[-1])
            self.session = sessions.setdefault(name, FakeSession(name, model))
            self.attached("session_started")

    def on_resume(self, message: dict[str, Any]) -> None:
        if self.script.refuse_resume or message["resume_token"] != "token":
            self.refuse("resume_refused", "The session cannot be resumed with this token.")
            return
        self.session = self.script.sessions[message["session_id"]]
        self.attached("resumed")
        for event in self.session.events[message["last_seq"] :]:
            self.write_message(event)

    def attached(self, kind: str) -> None:
        data = {
            "status": "active",
            "startTime": self.script.start_time,
            "model": self.session.model,
            "resumeToken": "token",
            "epoch": 1,
        }
        self.write_message({"type": kind, "session_id": self.session.id, "data": data})

    def on_text(self, message: dict[str, Any]) -> None:
        self.session.turn += 1
        self.result(message["text"], "You wrote: " + message["text"], final=True)

    def on_audio_chunk(self, message: dict[str, Any]) -> None:
        session = self.session
        if message["seq"] == session.next_chunk:
            session.next_chunk += 1
            self.on_audio(base64.b64decode(message["audio_data"]))
        self.say("audio_ack", {"seq": session.next_chunk - 1})

    def on_audio(self, chunk: bytes) -> None:
        script, session = self.script, self.session
        if script.refuse_audio:
            self.write_message(script.refuse_audio)
            return
        script.audio += chunk
        if not session.heard:
            session.turn += 1
        session.heard += len(chunk)
        if script.cut_after_bytes is not None and len(script.audio) >= script.cut_after_bytes:
            script.cut_after_bytes = None
            cut(self)
        self.result(f"{session.heard} bytes so far", None, final=False)
        if script.utterances and session.heard >= script.utterances[0]:
            script.utterances.pop(0)
            self.on_flush({})

    def on_flush(self, message: dict[str, Any]) -> None:
        if self.session.heard:
            self.result(f"{self.session.heard} bytes", "You spoke.", final=True)
            self.session.heard = 0

    def on_end_session(self, message: dict[str, Any]) -> None:
        self.on_flush({})
        self.say("session_ended", {"status": "ended", "duration": 1})

    def result(self, said: str, reply: str | None, *, final: bool) -> None:
        data = {
            "turnId": f"t{self.session.turn}",
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
        """A numbered message; it is kept for a client that is away."""
        session = self.session
        event = {"type": kind, "session_id": session.id, "seq": len(session.events) + 1, "data": data}
        session.events.append(event)
        if self.ws_connection is not None and not self.ws_connection.is_closing():
            self.write_message(event)

    def refuse(self, code: str, sentence: str) -> None:
        self.write_message({"type": "error", "code": code, "error": sentence})


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
