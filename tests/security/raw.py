"""Bytes on a socket, for what no decent client would send."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass


async def answer_to(port: int, request: bytes, *, timeout_s: float = 5.0) -> bytes:
    """All bytes that come back until the server closes or says nothing more for a while."""
    answer = bytearray()
    async with connected(port) as (reader, writer):
        writer.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                while data := await reader.read(65536):
                    answer += data
                    if _is_complete(answer):
                        break
        except (TimeoutError, ConnectionError):
            pass
    return bytes(answer)


def _is_complete(answer: bytearray) -> bool:
    head, end, body = bytes(answer).partition(b"\r\n\r\n")
    if status_of(head) in (101, 204):
        return bool(end)
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and bool(length) and len(body) >= int(length[1])


def status_of(answer: bytes) -> int:
    """The HTTP status; 0 for none."""
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(found[1]) if found else 0


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """One request; `_` in a header's name stands for `-`."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method != "GET" or data:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def upgrade(path: str = "/ws/live-audio", **headers: str) -> bytes:
    """The opening handshake of a WebSocket (RFC 6455 §4.1)."""
    standard = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": base64.b64encode(os.urandom(16)).decode(),
    }
    return request("GET", path, **standard, **headers)


def masked(message: dict[str, Any]) -> bytes:
    """A text frame (RFC 6455 §5.2), masked with zeros."""
    data = json.dumps(message).encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data)]) + bytes(4) + data


class KeepAlive:
    """One HTTP connection for many requests, faster than a client library."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, wire: bytes) -> tuple[int, bytes]:
        self._writer.write(wire)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await self._reader.readexactly(int(length[1])) if length else b""
        return status_of(head), body
