"""What a frontend does, in a few words, for tests."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tornado_live.app import LiveServer

DATA = Path(__file__).parent / "data"
API = "/api/v1/live-audio"

GOOGLE_KEY = os.environ.get("GOOGLE_API_KEY")
"""Kept for the tests that are marked `real_key`; conftest.py takes it away from all others."""
JFK = (
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
)


def chunks(recording: str) -> list[bytes]:
    """The chunks of a real recording, as the browser delivered them."""
    return [path.read_bytes() for path in sorted((DATA / "recordings" / recording).glob("*.bin"))]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def wrong_words(heard: str, said: str) -> int:
    """Words that were put in, left out or changed (Levenshtein distance over words)."""
    ours, theirs = words(heard), words(said)
    row = list(range(len(theirs) + 1))
    for i, one in enumerate(ours, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(theirs, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


async def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)
    return value


async def call(
    server: LiveServer,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 45.0,
) -> HTTPResponse:
    """One REST call as the frontend makes it; errors are answers too."""
    if body is not None and not isinstance(body, bytes | str):
        body = json.dumps(body)
    method = method or ("GET" if body is None else "POST")
    request = HTTPRequest(
        f"http://127.0.0.1:{server.port}{path}",
        method=method,
        body=body,
        headers={"Content-Type": "application/json", **(headers or {})},
        request_timeout=timeout_s,
        allow_nonstandard_methods=True,
    )
    return await AsyncHTTPClient().fetch(request, raise_error=False)


async def api(server: LiveServer, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of a call below `/api/v1/live-audio`."""
    response = await call(server, API + path, body, **options)
    return response.code, json.loads(response.body)


class Socket:
    """A WebSocket client that speaks JSON."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []
        self.over = False

    @classmethod
    async def open(
        cls, server: LiveServer, *, path: str = "/ws/live-audio", port: int | None = None, **headers: str
    ) -> Socket:
        request = HTTPRequest(
            f"ws://127.0.0.1:{port or server.port}{path}",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return cls(await websocket_connect(request))

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        if isinstance(message, dict):
            message = json.dumps(message)
        await self.connection.write_message(message, binary=isinstance(message, bytes))

    async def frame(self, timeout_s: float = 10.0) -> str | bytes | None:
        """The next frame as it is; None when the socket was closed."""
        return await asyncio.wait_for(self.connection.read_message(), timeout_s)

    async def message(self, timeout_s: float = 10.0) -> dict[str, Any]:
        frame = await self.frame(timeout_s)
        if frame is None:
            self.over = True
        assert isinstance(frame, str), f"expected a message, got {frame!r}"
        self.seen.append(json.loads(frame))
        return self.seen[-1]

    async def message_of(self, *types: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The next message of one of these types; others are passed over."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = await self.message(max(0.01, deadline - time.monotonic()))
            if message["type"] in types:
                return message

    async def closed(self, timeout_s: float = 10.0) -> int | None:
        """Reads to the end; the close code."""
        deadline = time.monotonic() + timeout_s
        while not self.over:
            frame = await self.frame(max(0.01, deadline - time.monotonic()))
            self.over = frame is None
            if isinstance(frame, str):
                self.seen.append(json.loads(frame))
        return self.connection.close_code

    async def start(self, **fields: Any) -> dict[str, Any]:
        await self.send({"type": "start_session", **fields})
        return await self.message_of("session_started", "error")

    def close(self) -> None:
        self.connection.close()
