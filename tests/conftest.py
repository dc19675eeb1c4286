"""Servers to test against: real sockets, the real SDK, the emulator's scripted or real ears."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Socket
from tornado.ioloop import IOLoop

from tornado_live.app import LiveServer
from tornado_live.emulator import EmulatorOptions, EmulatorThread
from tornado_live.settings import Settings

DATA = Path(__file__).parent / "data"

for name in list(os.environ):
    if name.startswith(("GOOGLE_", "GEMINI_", "TORNADO_LIVE")):
        del os.environ[name]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, what was skipped has not been seen to work."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


MakeServer = Callable[..., Awaitable[LiveServer]]


@pytest.fixture(scope="session")
def real_ears() -> Iterator[EmulatorThread]:
    """An emulator that really recognises speech."""
    with _running(EmulatorOptions(ears="real")) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def scripted_ears() -> Iterator[EmulatorThread]:
    """An emulator that costs next to nothing and answers text."""
    scenario = {"pace": {"speed": 100, "fast_turn_complete": True}}
    with _running(EmulatorOptions(ears="scripted", voice="tone", scenario=scenario)) as emulator:
        yield emulator


class _running:
    def __init__(self, options: EmulatorOptions) -> None:
        self.emulator = EmulatorThread(options)

    def __enter__(self) -> EmulatorThread:
        self.emulator.start()
        return self.emulator

    def __exit__(self, *_: object) -> None:
        self.emulator.stop()


def settings_for(emulator: EmulatorThread, store: str = ":memory:", **sections: Any) -> Settings:
    """Settings of a server on free ports whose Gemini is the emulator."""
    gemini = {"api_key": "test-key", "base_url": emulator.url, "ca_file": emulator.ca_file}
    given: dict[str, dict[str, Any]] = {
        "server": {"host": "127.0.0.1", "port": 0, "websocket_port": 0},
        "store": {"path": store},
        "gemini": gemini,
        "emulator": {"mode": "never"},
    }
    for section, values in sections.items():
        given[section] = given.get(section, {}) | values
    return Settings.model_validate(given)


@pytest.fixture
def make_server(io_loop: IOLoop) -> Iterator[MakeServer]:
    """Starts servers in the test's loop and stops them after it."""
    servers: list[LiveServer] = []

    async def make(emulator: EmulatorThread, store: str = ":memory:", **sections: Any) -> LiveServer:
        server = LiveServer(settings_for(emulator, store, **sections))
        servers.append(server)
        await server.start()
        await server.ready()
        return server

    yield make
    for server in servers:
        io_loop.run_sync(server.stop, timeout=20)


@pytest.fixture
def server(make_server: MakeServer, scripted_ears: EmulatorThread, io_loop: IOLoop) -> LiveServer:
    """A server with scripted ears."""
    return io_loop.run_sync(lambda: make_server(scripted_ears), timeout=20)


@pytest.fixture
def connect(io_loop: IOLoop) -> Iterator[Callable[..., Awaitable[Socket]]]:
    """Opens WebSockets that are closed after the test."""
    sockets: list[Socket] = []

    async def open_socket(server: LiveServer, **options: Any) -> Socket:
        sockets.append(await Socket.open(server, **options))
        return sockets[-1]

    yield open_socket
    for socket in sockets:
        socket.close()
        io_loop.run_sync(socket.closed, timeout=10)
