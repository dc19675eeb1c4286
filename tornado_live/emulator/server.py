"""The emulator's server: TLS, the address of Gemini Live, and the control API. The only file here that uses
Tornado."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any

from tornado import httpserver, iostream, web, websocket

from tornado_live.emulator import control
from tornado_live.emulator.certificate import EphemeralCertificate
from tornado_live.emulator.conversation import Conversation
from tornado_live.emulator.ears import NoEars, ScriptedEars, choose_ears
from tornado_live.emulator.journal import Journal
from tornado_live.emulator.options import EmulatorOptions
from tornado_live.emulator.outlet import Outlet, Sabotage
from tornado_live.emulator.resumption import SessionStore
from tornado_live.emulator.scenarios import Scenario, load_scenario
from tornado_live.emulator.voice import choose_voice
from tornado_live.emulator.world import World

logger = logging.getLogger(__name__)

LIVE_PATH = (
    r"(?:/scn/(?P<scenario>[^/]+))?/+ws/google\.ai\.generativelanguage\.(?P<version>v1|v1beta|v1alpha)"
    r"\.GenerativeService\.BidiGenerateContent(?:Constrained)?"
)
_MAX_MESSAGE_BYTES = 32 * 2**20
_HANDLE_TTL_S = 7200.0


class Emulator:
    """A local Gemini Live in the current event loop.

    Attributes:
        url: what to give the SDK as `base_url`, known from `start` on; `url + "/scn/NAME"` for a named
            scenario.
        ca_file: the certificate to trust, known from `start` on.
        engine: what answers, for people.
        journal: every frame, both ways.

    Raises:
        ScenarioError: a scenario cannot be used.
        ValueError: ears or voice are asked for and not installed.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        self._options = options
        self._scenarios = {name: load_scenario(one) for name, one in options.scenarios.items()}
        self._scenarios[""] = load_scenario(options.scenario or {})
        self._counts: dict[str, int] = {}
        self._ears = choose_ears(options.ears)
        self._voice = choose_voice(options.voice)
        self.engine = _engine(self._ears.name, self._voice.name)
        self.url = ""
        self.ca_file = ""
        self.connections: dict[int, LiveHandler] = {}
        self._opened = 0
        self._endings: set[asyncio.Task[None]] = set()
        self._listening_again: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Returns when it is listening; the recogniser is loaded in the background.

        Raises:
            OSError: the port is taken, or the journal cannot be written.
        """
        options = self._options
        self.journal = Journal(options.journal_path)
        self.world = World(
            self._ears,
            self._voice,
            SessionStore(_HANDLE_TTL_S / options.time_scale),
            self.journal,
            options.time_scale,
        )
        try:
            listener = _listen(options.host, options.port)
        except OSError:
            self.journal.close()
            raise
        self._port: int = listener.getsockname()[1]
        self._certificate = EphemeralCertificate(options.host)
        self.ca_file = self._certificate.ca_file
        application = web.Application(
            [
                (LIVE_PATH, LiveHandler, {"emulator": self}),
                (r"/__emu/(?P<path>.*)", ControlHandler, {"emulator": self}),
            ],
            websocket_max_message_size=_MAX_MESSAGE_BYTES,
            log_function=_log_request,
        )
        untrusted = self._scenarios[""].upgrade.untrusted_certificate
        self._server = httpserver.HTTPServer(
            application, ssl_options=self._certificate.server_context(untrusted)
        )
        self._server.add_socket(listener)
        self.url = _url(options.host, self._port)
        self._ears.load()
        self.journal.note(0, "started", ears=self._ears.name, voice=self._voice.name, url=self.url)

    async def ready(self) -> None:
        """Returns when it can recognise and speak. Raises what loading raised."""
        await self._ears.ready()
        await self._voice.ready()

    async def stop(self) -> None:
        """Closes everything; nothing is left behind."""
        if self._listening_again is not None:
            self._listening_again.cancel()
        self._server.stop()
        for handler in list(self.connections.values()):
            handler.close(1001, "The emulator stops.")
            handler.abort()
            await handler.conversation.end()
        await asyncio.gather(*self._endings, return_exceptions=True)
        await self._server.close_all_connections()
        await self._ears.close()
        await self._voice.close()
        self.journal.close()
        self._certificate.close()

    def refuse_for(self, seconds: float) -> None:
        """Refuses TCP connections for a while; those that are open stay."""
        self._server.stop()
        self._listening_again = asyncio.get_running_loop().call_later(seconds, self._listen_again)

    def _listen_again(self) -> None:
        self._listening_again = None
        self._server.add_socket(_listen(self._options.host, self._port))
        self.journal.note(0, "listening_again")

    def scenario(self, name: str) -> Scenario | None:
        """The named scenario ("" is that of all other connections), for its next connection."""
        scenario = self._scenarios.get(name)
        if scenario is None:
            return None
        self._counts[name] = self._counts.get(name, 0) + 1
        return scenario.for_connection(self._counts[name])

    def set_scenario(self, name: str, mapping: Mapping[str, Any]) -> None:
        """Puts a scenario in place for new connections; its count of connections begins anew.

        Raises:
            ScenarioError: it cannot be used; the old one stays.
        """
        self._scenarios[name] = load_scenario(mapping)
        self._counts[name] = 0

    def opened(self, handler: LiveHandler) -> int:
        """Takes a connection in and gives it its number."""
        self._opened += 1
        self.connections[self._opened] = handler
        return self._opened

    def closed(self, handler: LiveHandler) -> None:
        conversation = handler.conversation
        del self.connections[conversation.number]
        ending = asyncio.create_task(conversation.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)


class LiveHandler(websocket.WebSocketHandler):
    """One WebSocket: moves frames between Tornado and a `Conversation`."""

    def initialize(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._frozen: asyncio.Event | None = None

    async def prepare(self) -> None:
        scenario = self._emulator.scenario(self._scenario_name())
        if scenario is None:
            return self._refuse(404, f"There is no scenario {self._scenario_name()!r}.")
        self._scenario = scenario
        knobs = scenario.upgrade
        await asyncio.sleep(knobs.delay_ms / 1000)
        if knobs.http_status is not None:
            return self._refuse(knobs.http_status, "The scenario refuses this connection.")
        if knobs.max_connections is not None and len(self._emulator.connections) >= knobs.max_connections:
            return self._refuse(
                429, "You exceeded your current quota, please check your plan and billing details."
            )
        if not self._has_key():
            return self._refuse(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). "
                "Please use API Key or other form of API consumer identity to call this API.",
            )
        return None

    def _scenario_name(self) -> str:
        return self.path_kwargs.get("scenario") or self.request.headers.get("x-emu-scenario", "")

    def _has_key(self) -> bool:
        headers = self.request.headers
        arguments = self.request.arguments
        return bool(
            headers.get("x-goog-api-key")
            or headers.get("Authorization")
            or arguments.get("key")
            or arguments.get("access_token")
        )

    def _refuse(self, status: int, message: str) -> None:
        self.set_status(status)
        self.finish({"error": {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}})

    def check_origin(self, origin: str) -> bool:
        return True

    def get_websocket_protocol(self) -> websocket.WebSocketProtocol | None:
        protocol = super().get_websocket_protocol()
        if self._scenario.connection.ignore_pings and isinstance(protocol, websocket.WebSocketProtocol13):
            return _WithoutPongs(self, False, protocol.params)
        return protocol

    def open(self, scenario: str | None, version: str) -> None:
        emulator = self._emulator
        number = emulator.opened(self)
        self.set_nodelay(True)
        sabotage = Sabotage(self._scenario.connection, self)
        outlet = Outlet(self, self._scenario, sabotage, emulator.journal, number)
        self.outlet = outlet
        self.conversation = Conversation(emulator.world, self._scenario, number, version, outlet, sabotage)
        emulator.journal.note(number, "opened", scenario=self._scenario_name(), version=version)
        self.conversation.start()

    async def on_message(self, message: str | bytes) -> None:
        # Tornado reads the next frame when this returns: that is what holds a fast sender back.
        if self._frozen is not None:
            await self._frozen.wait()
        rate = self._scenario.connection.read_bytes_per_s
        if rate is not None:
            await asyncio.sleep(len(message) / rate)
        await self.conversation.receive(message)

    def on_close(self) -> None:
        self._emulator.journal.note(
            self.conversation.number, "closed", code=self.close_code, reason=self.close_reason
        )
        self._emulator.closed(self)

    async def send_frame(self, frame: bytes, *, binary: bool) -> None:
        if self._frozen is not None:
            return
        try:
            await self.write_message(frame, binary=binary)
        except (websocket.WebSocketClosedError, iostream.StreamClosedError):
            pass

    def abort(self) -> None:
        self._emulator.journal.note(self.conversation.number, "aborted")
        if self.ws_connection is not None and self.ws_connection.stream is not None:
            self.ws_connection.stream.close()

    def freeze(self) -> None:
        self._emulator.journal.note(self.conversation.number, "frozen")
        self._frozen = asyncio.Event()


class _WithoutPongs(websocket.WebSocketProtocol13):
    """A peer that is deaf to pings (RFC 6455, section 5.5.2, asks for a pong)."""

    def _send_pong(self, data: bytes) -> None:
        pass


class ControlHandler(web.RequestHandler):
    """`/__emu/`: see `control`."""

    def initialize(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def prepare(self) -> None:
        query = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        request = control.Request(
            self.request.method or "GET", self.path_kwargs["path"], query, self.request.body
        )
        self.set_status(200)
        try:
            self.finish(await control.answer(self._emulator, request))
        except control.ControlError as error:
            self.set_status(error.status)
            self.finish({"error": str(error)})


_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def _engine(ears: str, voice: str) -> str:
    if ears == ScriptedEars.name:
        return "scripted"
    if ears == NoEars.name:
        return f"offline demo engine (no speech recognition, {voice})"
    return f"offline demo engine ({ears}, {voice})"


def _listen(host: str, port: int) -> socket.socket:
    # Not Tornado's bind_sockets: it leaks the socket when the port is taken.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=128)
    listener.setblocking(False)
    return listener


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # nosec B104  # no bind
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _log_request(handler: web.RequestHandler) -> None:
    """Access lines are for debugging: the journal has the rest."""
    logger.debug("%d %s %s", handler.get_status(), handler.request.method, handler.request.path)
