"""A client that does all that a client may do to lose nothing, and counts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from tornado_live.emulator import numbered

API = "/api/v1/live-audio"
CHUNK_S = 0.1
CHUNK_BYTES = 3200
MAX_MESSAGE_BYTES = 64 * 2**20


class Client:
    """One conversation over as many connections as it takes.

    Attributes:
        frames: what each numbered message held, by number: its text, for audio header and samples.
        out_of_order: numbered messages that came twice or too late, as (last, this).
        finals: `data` of every exchange that was announced final.
        messages: everything, as it came.
    """

    def __init__(self, port: int, label: str, *, api_key: str | None = None, **start: Any) -> None:
        self.port = port
        self.label = label
        self._headers = {} if api_key is None else {"X-API-Key": api_key}
        self.token = ""
        self.epoch = 0
        self.last_seq = 0
        self.frames: dict[int, str | bytes] = {}
        self.out_of_order: list[tuple[int, int]] = []
        self.gaps: list[dict[str, int]] = []
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.unacknowledged: dict[int, bytes] = {}
        self._start = {"format": "pcm", "sample_rate": 16000, "channels": 1} | start
        self._connection: WebSocketClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._next_chunk = 0
        self._changed = asyncio.Event()
        self.closed = asyncio.Event()
        self.closed.set()

    # Connections

    async def start(self) -> dict[str, Any]:
        """A session under the label: a new one, or the one that is there."""
        await self._dial()
        await self.send({"type": "start_session", "session_id": self.label, **self._start})
        return self._attached(await self._answer("session_started"))

    async def resume(self) -> dict[str, Any]:
        """Comes back; raises OSError or Refused."""
        await self._dial()
        await self.send(
            {
                "type": "resume",
                "session_id": self.label,
                "resume_token": self.token,
                "last_seq": self.last_seq,
            }
        )
        answer = self._attached(await self._answer("resumed"))
        for seq, piece in list(self.unacknowledged.items()):
            await self._send_chunk(seq, piece)
        return answer

    async def come_back(self, within_s: float = 15.0) -> dict[str, Any]:
        """Tries to resume until it works."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                return await self.resume()
            except (OSError, Refused, WebSocketClosedError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _dial(self) -> None:
        await self.drop()
        self.messages.clear()
        url = f"ws://127.0.0.1:{self.port}/ws/live-audio"
        request = HTTPRequest(url, headers=self._headers, connect_timeout=5.0)
        self._connection = await websocket_connect(request, max_message_size=MAX_MESSAGE_BYTES)
        self.close_code = None
        self.closed.clear()
        self._reading = asyncio.create_task(self._read(self._connection))
        await self.send({"type": "hello", "version": 1, "binary": True})

    async def _answer(self, kind: str) -> dict[str, Any]:
        """Raises Refused; some errors have a message type of their own."""
        answer = await self.message(kind, "error", "session_expired", "inactivity_timeout", "auth_failed")
        if "error" in answer:
            raise Refused(answer["code"])
        return answer

    def _attached(self, answer: dict[str, Any]) -> dict[str, Any]:
        self.token = answer["data"]["resumeToken"]
        self.epoch = answer["data"]["epoch"]
        return answer

    async def drop(self) -> None:
        """Lets the connection go without a word to anybody."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._connection is not None and (protocol := self._connection.protocol) is not None:
            # Not `close`: that says goodbye.
            self._connection.protocol = None
            if protocol.stream is not None:
                protocol.stream.close()
        self._connection = None
        self.closed.set()

    async def _read(self, connection: WebSocketClientConnection) -> None:
        header: dict[str, Any] | None = None
        while (frame := await connection.read_message()) is not None:
            if isinstance(frame, bytes):
                assert header is not None, "samples without a header"
                self._numbered(header["seq"], frame)
                header = None
                continue
            message = json.loads(frame)
            self.messages.append(message)
            if message["type"] == "audio_output" and message["data"].get("binary"):
                header = message
            elif "seq" in message:
                self._numbered(message["seq"], frame)
                if message["type"] == "audio_ack":
                    self._acknowledged(message["data"]["seq"])
            elif message["type"] == "resumed" and message["data"]["gap"] is not None:
                self.gaps.append(message["data"]["gap"])
                self.last_seq = message["data"]["gap"]["to"]
            self._changed.set()
        self.close_code = connection.close_code
        self.closed.set()
        self._changed.set()

    def _numbered(self, seq: int, content: str | bytes) -> None:
        """A number counts only with all that belongs to it: a header alone is asked for again."""
        if seq <= self.last_seq:
            self.out_of_order.append((self.last_seq, seq))
        self.last_seq = seq
        self.frames[seq] = content
        self._changed.set()

    def _acknowledged(self, up_to: int) -> None:
        for seq in [seq for seq in self.unacknowledged if seq <= up_to]:
            del self.unacknowledged[seq]

    # Talking

    async def send(self, message: dict[str, Any]) -> None:
        if self._connection is None:
            raise WebSocketClosedError
        await self._connection.write_message(json.dumps(message))

    async def text(self, text: str) -> None:
        await self.send({"type": "text", "text": text})

    async def acknowledge(self) -> None:
        await self.send({"type": "ack", "seq": self.last_seq})

    async def speak(self, pcm: bytes, *, real_time: float = 1.0) -> None:
        """Sends numbered chunks, `real_time` times as long as they play; goes on through a lost network."""
        began = time.monotonic()
        for index, start in enumerate(range(0, len(pcm), CHUNK_BYTES)):
            await asyncio.sleep(began + index * CHUNK_S * real_time - time.monotonic())
            seq, self._next_chunk = self._next_chunk, self._next_chunk + 1
            self.unacknowledged[seq] = pcm[start : start + CHUNK_BYTES]
            with contextlib.suppress(WebSocketClosedError):
                await self._send_chunk(seq, self.unacknowledged[seq])

    async def say_numbers(self, first: int, count: int, *, pause_s: float = 1.2) -> None:
        await self.speak(numbered.speak(first, count) + bytes(round(pause_s * 16000) * 2))

    async def _send_chunk(self, seq: int, piece: bytes) -> None:
        audio = base64.b64encode(piece).decode()
        await self.send({"type": "audio_chunk", "audio_data": audio, "format": "pcm", "seq": seq})

    # Listening

    async def message(self, *types: str, timeout_s: float = 15.0) -> dict[str, Any]:
        """The first message of these types on this connection, also one that is there already."""
        async with asyncio.timeout(timeout_s):
            while True:
                for message in self.messages:
                    if message["type"] in types:
                        return message
                if self.closed.is_set():
                    raise WebSocketClosedError
                self._changed.clear()
                await self._changed.wait()

    async def exchanges(self, count: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """The first `count` finished exchanges of this connection."""
        async with asyncio.timeout(timeout_s):
            while len(self.finals) < count:
                if self.closed.is_set():
                    raise WebSocketClosedError
                self._changed.clear()
                await self._changed.wait()
        return self.finals

    @property
    def finals(self) -> list[dict[str, Any]]:
        """The exchanges that were announced final on this connection."""
        return [
            message["data"]
            for message in self.messages
            if message["type"] == "transcription_result" and message["data"]["final"]
        ]

    def all_of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]


class Refused(Exception):
    """The server answered with an error of this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


async def call(
    port: int, path: str, body: Any = None, *, api_key: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and body of a REST call; `path` below the API's, or from the root with `/` twice."""
    url = f"http://127.0.0.1:{port}" + (path[1:] if path.startswith("//") else API + path)
    key = {} if api_key is None else {"X-API-Key": api_key}
    response = await AsyncHTTPClient().fetch(
        HTTPRequest(
            url,
            method="GET" if body is None else "POST",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"} | key,
            request_timeout=30.0,
        ),
        raise_error=False,
    )
    return response.code, json.loads(response.body) if response.body else {}


async def ledger(port: int, label: str, *, api_key: str | None = None) -> list[dict[str, Any]]:
    """The turns of a session, as the server keeps them."""
    status, body = await call(port, f"/session/{label}/transcript", api_key=api_key)
    assert status == 200, body
    turns: list[dict[str, Any]] = body["data"]["turns"]
    return turns


def said(turns: list[dict[str, Any]]) -> list[int]:
    """The numbers that the user said, in order."""
    spoken = " ".join(turn["text"] for turn in turns if turn["role"] == "user")
    return numbered.numbers(spoken)


async def observed(port: int, label: str) -> AsyncIterator[dict[str, Any]]:
    """A session's events as Server-Sent Events, from its first one on; ends with the session."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    url = f"http://127.0.0.1:{port}{API}/session/{label}/events"
    request = HTTPRequest(
        url, headers={"Last-Event-ID": "0"}, streaming_callback=queue.put_nowait, request_timeout=0
    )
    # The shared client has room for ten requests at once.
    http = AsyncHTTPClient(force_instance=True)
    fetching = asyncio.ensure_future(http.fetch(request))
    fetching.add_done_callback(lambda _: queue.put_nowait(None))
    received = b""
    try:
        while (piece := await queue.get()) is not None:
            received += piece
            *blocks, received = received.split(b"\n\n")
            for block in blocks:
                if b"data: " in block:
                    yield json.loads(block.split(b"data: ", 1)[1])
    finally:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        http.close()
