"""Readers that never read, while the model speaks to them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fault_runs.clients import call
from fault_runs.gemini import emulator
from fault_runs.processes import ServerProcess

WORDS_FOR_320_S = 700
MIB_A_READER = 0.6
"""The replay window, what the model is ahead, and the allocator's share."""
CLOSED_AFTER_S = 15.0
RECEIVE_BUFFER_BYTES = 64 * 2**10


@dataclass
class Stalled:
    """What so many readers cost that never read.

    Attributes:
        grown_mib: the server's memory at its most, over what it was when all were attached.
        closed_s: until the last of them was closed, from the first sound on.
        audio_s: what the model had said to each by then.
    """

    readers: int
    ahead_s: float
    grown_mib: float
    closed_s: float
    audio_s: float


async def never_read(readers: int = 50, *, ahead_s: float = 5.0) -> Stalled:
    """Has the model say 320 s of audio to each; it gets about `ahead_s` ahead until they are closed."""
    answer = " ".join(["word"] * WORDS_FOR_320_S)
    scenario = {
        "pace": {"speed": 1 + ahead_s / CLOSED_AFTER_S},
        "script": {"replies": [{"when": "speak", "text": answer}, {"text": "Yes."}]},
    }
    gemini = emulator(scenario)
    gemini.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept = {"replay_window": ahead_s}
            async with ServerProcess(Path(folder), gemini.url, gemini.ca_file, sessions=kept) as server:
                stalled = await _stall(server, readers, ahead_s)
        said = [entry["bytes"] for entry in gemini.journal if entry["dir"] == "out" and entry["bytes"] > 4000]
        stalled.audio_s = sum(said) * 0.75 / 48_000 / readers
        return stalled
    finally:
        gemini.stop()


async def _stall(server: ServerProcess, count: int, ahead_s: float) -> Stalled:
    # Once through everything that is loaded or built at its first use.
    warm = [await _attach(server.port, f"warm_{number}") for number in range(3)]
    for each in warm:
        await _send(each, {"type": "text", "text": "hello"})
    await asyncio.sleep(3.0)
    for each in warm:
        each.close()
    sockets = [await _attach(server.port, f"stalled_{number}") for number in range(count)]
    await asyncio.sleep(1.0)
    before = server.rss_bytes
    for each in sockets:
        await _send(each, {"type": "text", "text": "speak"})
    began = time.monotonic()
    most = before
    closed_s = float("inf")
    while time.monotonic() - began < 60.0:
        await asyncio.sleep(0.25)
        most = max(most, server.rss_bytes)
        _, body = await call(server.port, "/sessions")
        attached = [
            session
            for session in body["data"]["sessions"]
            if session["status"] == "active" and session["sessionId"].startswith("stalled")
        ]
        if not attached:
            closed_s = time.monotonic() - began
            break
    # What is said meanwhile is kept for a client that comes back.
    for _ in range(20):
        await asyncio.sleep(0.25)
        most = max(most, server.rss_bytes)
    for each in sockets:
        each.close()
    return Stalled(count, ahead_s, (most - before) / 2**20, closed_s, 0.0)


async def _attach(port: int, label: str) -> socket.socket:
    """A WebSocket by hand (RFC 6455), because a real client would read."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /ws/live-audio HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(sock, request.encode())
    await _send(sock, {"type": "hello", "version": 1, "binary": True})
    start = {"type": "start_session", "session_id": label, "response_modality": "audio"}
    await _send(sock, start | {"audio_delivery": "stream"})
    received = b""
    while b"session_started" not in received:
        received += await asyncio.wait_for(loop.sock_recv(sock, 65536), 15.0)
    return sock


async def _send(sock: socket.socket, message: Mapping[str, object]) -> None:
    payload = json.dumps(message).encode()
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    head = (
        bytes([0x81, 0x80 | len(payload)])
        if len(payload) < 126
        else struct.pack("!BBH", 0x81, 0xFE, len(payload))
    )
    await asyncio.get_running_loop().sock_sendall(sock, head + mask + masked)
