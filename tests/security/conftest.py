"""A server as it should run on the internet, and one that nobody should run anywhere."""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from callers import JOHN, MARY, PAGE
from tornado.ioloop import IOLoop
from unprotected import UnprotectedServer, start_unprotected

from tornado_live.app import LiveServer
from tornado_live.settings import LoggingSettings
from tornado_live.telemetry import logs

UNLIMITED = {"requests_per_minute": 0, "messages_per_second": 0}

MakeProtected = Callable[..., Awaitable[LiveServer]]


@pytest.fixture
def make_protected(make_server: Any, scripted_ears: Any) -> MakeProtected:
    """Servers with two keys and one page, and whatever else a test sets."""

    async def make(store: str = ":memory:", **sections: Any) -> LiveServer:
        standard: dict[str, dict[str, Any]] = {
            "auth": {
                "mode": "keys",
                "keys": [{"name": "mary", "secret": MARY}, {"name": "john", "secret": JOHN}],
            },
            "cors": {"origins": [PAGE]},
            "limits": UNLIMITED,
        }
        for section, values in sections.items():
            standard[section] = standard.get(section, {}) | values
        return await make_server(scripted_ears, store, **standard)

    return make


@pytest.fixture
def protected(make_protected: MakeProtected, io_loop: IOLoop) -> LiveServer:
    return io_loop.run_sync(make_protected, timeout=20)


@pytest.fixture
def unprotected(io_loop: IOLoop, tmp_path: Path) -> Iterator[UnprotectedServer]:
    server = start_unprotected(io_loop, tmp_path)
    yield server
    io_loop.run_sync(server.stop)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a server writes in production, at its most talkative."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure(LoggingSettings(level="debug", format="json"), ["ak_known-secret-of-the-settings"], stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
