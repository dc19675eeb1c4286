"""The one place where the parts are put together: start, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from tornado.web import Application, url

from tornado_live.access.audit import Audit
from tornado_live.access.identity import Authenticator
from tornado_live.access.limits import Limiter
from tornado_live.access.origins import OriginPolicy
from tornado_live.access.proxies import TrustedProxies
from tornado_live.access.strangers import StrangerGuard
from tornado_live.audio import DecodeLimits
from tornado_live.emulator import EmulatorOptions, EmulatorThread
from tornado_live.emulator.scenarios import ScenarioError, load_scenario
from tornado_live.errors import SettingsError, ShuttingDown, StoreUnavailable
from tornado_live.handlers.arrival import ArrivalOrders
from tornado_live.handlers.base import NotFoundHandler
from tornado_live.handlers.events import EventsHandler
from tornado_live.handlers.live import LiveHandler
from tornado_live.handlers.ops import LiveProbeHandler, OpenApiHandler, ReadyProbeHandler
from tornado_live.handlers.pages import PageHandler
from tornado_live.handlers.services import Services
from tornado_live.handlers.sessions import (
    EndHandler,
    SessionsHandler,
    StartHandler,
    StatusHandler,
    TicketHandler,
    TranscriptHandler,
)
from tornado_live.handlers.transcribe import TranscribeHandler
from tornado_live.listening import Listeners
from tornado_live.plugins import CodecRegistry
from tornado_live.sessions.events import Notice
from tornado_live.sessions.intake import IntakePolicy
from tornado_live.sessions.oneshot import OneShot
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.registry import RegistryPolicy, SessionRegistry
from tornado_live.sessions.session import Session, SessionPolicy
from tornado_live.settings import (
    AudioSettings,
    GeminiSettings,
    Settings,
    read_yaml,
    secret_values,
)
from tornado_live.store import lock
from tornado_live.store.base import SessionRecord, TurnRecord
from tornado_live.store.behind import WriteBehind
from tornado_live.store.sqlite import IN_MEMORY, SqliteStore
from tornado_live.telemetry import logs
from tornado_live.upstream.base import HistoryTurn, LinkEvent, UpstreamSetup, VoiceActivityDetection
from tornado_live.upstream.gemini import GeminiConnector
from tornado_live.upstream.link import Link
from tornado_live.upstream.models import ModelCatalogue, ModelProfile, adapt
from tornado_live.upstream.policy import LinkPolicy
from tornado_live.web import static_path

log = logging.getLogger(__name__)

API = "/api/v1/live-audio"
MESSAGE_MARGIN_BYTES = 64 * 2**10
NO_KEY = "offline"
MAX_SPREAD_S = 5.0
RETRY_AFTER_S = 5.0
SOCKETS_CLOSE_S = 2.0


class LiveServer:
    """A whole server in the current event loop.

    Attributes:
        port: where it listens, once started (the settings may say 0: a free one).
        websocket_port: where the old clients' socket listens, if anywhere.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = 0
        self.websocket_port: int | None = None
        self._emulator = _emulator(settings)
        self._codecs = CodecRegistry.load(settings.codecs.disabled, settings.codecs.plugins_dir)
        self._catalogue = ModelCatalogue(settings.gemini.default_model, settings.gemini.aliases)
        self._store = WriteBehind(SqliteStore(settings.store.path))
        self._limiter = Limiter(settings.limits, sessions_per_owner=settings.sessions.per_owner)
        self._intake_policy = _intake_policy(settings.audio)
        self._listeners = Listeners(settings.server)
        self._parts = AsyncExitStack()

    async def start(self) -> None:
        """Listens when it returns; the link to the model goes on loading.

        Raises:
            SettingsError: a port or the store is taken, or a file cannot be used. Nothing is left running.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        started = self._parts
        await self._open_store()
        started.push_async_callback(self._limiter.close)
        if self._emulator is not None:
            await asyncio.to_thread(self._emulator.start)
            started.push_async_callback(asyncio.to_thread, self._emulator.stop)
        self._connector = self._make_connector()
        started.push_async_callback(self._connector.close)
        self.services = self._make_services()
        started.push_async_callback(self._close_connections)
        self._loading = self._spawn(self._connector.start())
        self._spawn(self._sweep())
        started.push_async_callback(self.services.registry.close)
        started.callback(self._listeners.stop)
        self._listen()

    async def _open_store(self) -> None:
        path = self.settings.store.path
        try:
            if path != IN_MEMORY:
                self._parts.enter_context(lock.held(path))
            await self._store.open()
        except BlockingIOError as exc:
            raise SettingsError(
                [
                    f"store.path: another server that is running uses {path}; stop it, or set another "
                    "file, for example by the variable TORNADO_LIVE__STORE__PATH."
                ]
            ) from exc
        except (OSError, StoreUnavailable) as exc:
            cause = exc.__cause__ or exc
            reason = getattr(cause, "strerror", None) or cause
            raise SettingsError([f"store.path: {path} cannot be used: {reason}; set another file."]) from exc
        self._parts.push_async_callback(self._store.close)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """A task that ends with the server."""
        task = asyncio.create_task(work)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._parts.push_async_callback(end)
        return task

    async def ready(self) -> None:
        """Returns when sessions can be started without waiting for the link to load."""
        await self._loading

    async def drain(self) -> None:
        """Refuses new sessions, tells all clients, and waits until the replies under way are complete."""
        self.services.draining = True
        self.services.registry.refuse_new()
        timeout_s = self.settings.server.drain_timeout
        notice = Notice("server_going_away", {"deadlineMs": int(timeout_s * 1000)})
        for session in self.services.registry.live:
            session.announce(notice)
        try:
            await asyncio.wait_for(self.services.registry.quiet(), timeout_s)
        except TimeoutError:
            log.warning("drain_timeout")
        await self.services.registry.close(
            spread_s=min(MAX_SPREAD_S, 0.02 * len(self.services.registry.live))
        )
        await self._leave_sockets()

    async def stop(self) -> None:
        """Ends everything at once; sessions keep their records. Nothing is left when it returns."""
        await self._parts.aclose()

    def reload(self) -> None:
        """Reads the files of keys and the certificate again; what cannot be read stays as it was."""
        try:
            self.services.authenticator.reload()
            self._listeners.reload_certificate()
        except SettingsError as exc:
            log.error("reload_failed", extra={"problems": exc.problems})  # noqa: TRY400 - no traceback
        else:
            log.info("reloaded")

    async def _leave_sockets(self) -> None:
        """Those without a session are told too; nobody is waited for long."""
        for connection in list(self.services.sockets):
            connection.leave(ShuttingDown(retry_after_s=RETRY_AFTER_S))
        deadline_s = time.monotonic() + SOCKETS_CLOSE_S
        while self.services.sockets and time.monotonic() < deadline_s:  # noqa: ASYNC110 - they come and go
            await asyncio.sleep(0.01)

    async def _close_connections(self) -> None:
        await self._leave_sockets()
        await self._listeners.close_connections()

    # Parts

    def _make_connector(self) -> GeminiConnector:
        gemini = self.settings.gemini
        if self._emulator is not None:
            url, ca_file = self._emulator.url, self._emulator.ca_file
            return GeminiConnector(gemini, api_key=NO_KEY, base_url=url, ca_file=ca_file)
        if gemini.api_key is None:
            raise SettingsError(
                ["gemini.api_key: set GOOGLE_API_KEY, or emulator.mode: auto to run without a key."]
            )
        return GeminiConnector(gemini, api_key=gemini.api_key.get_secret_value())

    def _make_services(self) -> Services:
        settings = self.settings
        sessions = settings.sessions
        return Services(
            settings=settings,
            authenticator=Authenticator(settings.auth),
            strangers=StrangerGuard(settings.auth),
            audit=Audit(settings.auth.audit_file),
            origins=OriginPolicy(settings.cors),
            proxies=TrustedProxies(settings.server.trusted_proxies),
            limiter=self._limiter,
            registry=SessionRegistry(
                self._store,
                self._build_session,
                RegistryPolicy(
                    duration_s=sessions.duration,
                    idle_timeout_s=sessions.idle_timeout,
                    resume_grace_s=sessions.resume_grace,
                    max_sessions=sessions.max,
                    start_wait_s=sessions.start_wait,
                    keep_records_s=sessions.keep_records,
                ),
            ),
            one_shot=OneShot(
                self._codecs,
                self._one_shot_link,
                self._intake_policy,
                max_seconds=settings.audio.one_shot_max,
                max_at_once=sessions.max,
                connect_s=settings.gemini.connect_timeout,
            ),
            catalogue=self._catalogue,
            codecs=self._codecs,
            arrivals=ArrivalOrders(),
            engine=self._emulator.engine if self._emulator is not None else "Gemini",
            connector=self._connector,
        )

    def _build_session(
        self, record: SessionRecord, options: SessionOptions, turns: list[TurnRecord] | None
    ) -> Session:
        asked, profile = self._catalogue.resolve(options.model)
        setup = _setup(self.settings.gemini, options, profile)
        settings = self.settings

        def make_link(
            on_event: Callable[[LinkEvent], None],
            history: Callable[[], list[HistoryTurn]],
            handle: str | None,
        ) -> Link:
            policy = LinkPolicy(nudge=settings.gemini.nudge)
            return Link(
                self._connector, setup, profile, on_event, history=history, handle=handle, policy=policy
            )

        return Session(
            replace(record, model=asked, served_model=profile.name),
            options,
            policy=SessionPolicy(
                intake=self._intake_policy,
                transcribe_wait_s=settings.audio.transcribe_wait,
                transcribe_max_s=settings.audio.transcribe_max,
                output_lead_s=settings.audio.output_lead,
                end_wait_s=settings.sessions.end_wait,
                replay_window_s=settings.sessions.replay_window,
            ),
            codecs=self._codecs,
            store=self._store,
            make_link=make_link,
            turns=turns,
        )

    def _one_shot_link(
        self, options: SessionOptions, on_event: Callable[[LinkEvent], None]
    ) -> tuple[Link, str]:
        _, profile = self._catalogue.resolve(options.model)
        setup = _setup(self.settings.gemini, options, profile)
        return Link(self._connector, setup, profile, on_event), profile.name

    def _listen(self) -> None:
        server = self.settings.server
        self.port = self._listeners.open(make_app(self.services), "port", server.port)
        if server.websocket_port is not None:
            application = make_socket_app(self.services)
            self.websocket_port = self._listeners.open(application, "websocket_port", server.websocket_port)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sessions.cleanup_interval)
            try:
                await self.services.registry.sweep()
            except Exception:
                log.exception("sweep_failed")


def make_app(services: Services) -> Application:
    """The addresses of a server."""
    parts = {"services": services}
    pages = {"path": str(static_path())}
    return Application(
        [
            url(API + r"/sessions", SessionsHandler, parts),
            url(API + r"/session/start", StartHandler, parts),
            url(API + r"/streaming/start", StartHandler, parts),
            url(API + r"/ticket", TicketHandler, parts),
            url(API + r"/session/end", EndHandler, parts),
            url(API + r"/session/([^/]+)/status", StatusHandler, parts),
            url(API + r"/session/([^/]+)/transcript", TranscriptHandler, parts),
            url(API + r"/session/([^/]+)/events", EventsHandler, parts),
            url(API + r"/transcribe", TranscribeHandler, parts),
            url(r"/api/v1/openapi\.json", OpenApiHandler, parts),
            url(r"/ws/live-audio", LiveHandler, parts),
            url(r"/livez", LiveProbeHandler),
            url(r"/readyz", ReadyProbeHandler, parts),
            url(r"/(?:index\.html)?()", PageHandler, pages | {"default_filename": "index.html"}),
            url(r"/static/(.+)", PageHandler, pages),
        ],
        default_handler_class=NotFoundHandler,
        default_handler_args=parts,
        **web_settings(services.settings),
    )


def make_socket_app(services: Services) -> Application:
    """The old clients' socket, at the root of a port of its own."""
    return Application([url(r"/", LiveHandler, {"services": services})], **web_settings(services.settings))


def web_settings(settings: Settings) -> dict[str, Any]:
    """What Tornado is told of WebSockets and the access log."""
    server = settings.server
    return {
        # A little more than is accepted, so that a client reads why its message was not.
        "websocket_max_message_size": server.max_message + MESSAGE_MARGIN_BYTES,
        "websocket_ping_interval": server.ping_interval or None,
        "websocket_ping_timeout": server.ping_timeout or None,
        "log_function": logs.log_request,
    }


def _setup(gemini: GeminiSettings, options: SessionOptions, profile: ModelProfile) -> UpstreamSetup:
    instructions = [text for text in (gemini.system_instruction, options.system_instruction) if text]
    return adapt(
        UpstreamSetup(
            model=profile.name,
            modality=options.modality,
            input_transcription=options.input_transcription,
            output_transcription=True,
            voice=options.voice or gemini.voice,
            language=options.language or gemini.language,
            system_instruction="\n\n".join(instructions) or None,
            turn_detection=options.turn_detection,
            vad=VoiceActivityDetection(**gemini.vad.model_dump()),
            compression=gemini.compression,
        ),
        profile,
    )


def _intake_policy(audio: AudioSettings) -> IntakePolicy:
    return IntakePolicy(
        limits=DecodeLimits(
            max_header_bytes=audio.max_header,
            max_block_bytes=audio.max_block,
            max_pending_bytes=audio.max_pending,
            max_whole_bytes=audio.max_whole,
            max_whole_seconds=audio.one_shot_max,
            max_seconds_per_byte=audio.max_seconds_per_byte,
            min_rate_hz=audio.min_rate_hz,
            max_rate_hz=audio.max_rate_hz,
            max_channels=audio.max_channels,
        ),
        credit_rate=audio.credit_rate,
        credit_burst_s=audio.credit_burst,
    )


def _emulator(settings: Settings) -> EmulatorThread | None:
    """The offline engine, where the settings ask for it or there is no key."""
    mode = settings.emulator.mode
    if mode == "never" or (mode == "auto" and settings.gemini.api_key is not None):
        return None
    file = settings.emulator.scenario
    scenario = read_yaml(file) if file is not None else None
    try:
        load_scenario(scenario or {})
    except ScenarioError as exc:
        raise SettingsError([f"emulator.scenario: {file}: {exc}"]) from exc
    return EmulatorThread(EmulatorOptions(scenario=scenario))


async def serve(settings: Settings, on_started: Callable[[LiveServer], None] = lambda server: None) -> None:
    """Runs until SIGINT or SIGTERM; a second one ends the process at once."""
    server = LiveServer(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    await server.start()
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    on_started(server)
    await stopping.wait()
    log.info("draining")
    await server.drain()
    await server.stop()
    log.info("stopped")


def run(settings: Settings, on_started: Callable[[LiveServer], None] = lambda server: None) -> None:
    """`serve` in a loop of its own: uvloop where it is installed and `server.loop` allows it."""
    logs.configure(settings.logging, secret_values(settings))
    with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
        runner.run(serve(settings, on_started))


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.server.loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if settings.server.loop == "uvloop":
            raise SettingsError(
                ["server.loop: uvloop is not installed; pip install 'tornado-live[uvloop]'."]
            ) from None
        return None
    return uvloop.new_event_loop
