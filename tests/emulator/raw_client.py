"""A client of Gemini Live with nothing between it and the wire: websockets and JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from tornado_live.emulator import Emulator, EmulatorThread

MODEL = "gemini-3.8-live"
LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"

Message = dict[str, Any]
StartEmulator = Callable[..., Awaitable[Emulator]]


class RawClient:
    """One connection. `received` is every message so far, in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[Message] = []

    @classmethod
    async def dial(
        cls, emulator: Emulator | EmulatorThread, prefix: str = "", query: str = "?key=x", **options: Any
    ) -> RawClient:
        url = emulator.url.replace("https", "wss") + prefix + LIVE + query
        context = ssl.create_default_context(cafile=emulator.ca_file)
        return cls(await connect(url, ssl=context, proxy=None, max_size=None, **options))

    @classmethod
    async def open(
        cls, emulator: Emulator | EmulatorThread, prefix: str = "", model: str = MODEL, **setup: Any
    ) -> RawClient:
        """Dials, sets up and waits for `setupComplete`."""
        client = await cls.dial(emulator, prefix)
        await client.send({"setup": {"model": f"models/{model}", **setup}})
        await client.until("setupComplete")
        return client

    async def send(self, message: Message) -> None:
        await self.socket.send(json.dumps(message))

    async def send_audio(self, pcm: bytes, rate_hz: int = 16_000, piece_bytes: int = 32_000) -> None:
        for start in range(0, len(pcm), piece_bytes):
            data = base64.b64encode(pcm[start : start + piece_bytes]).decode()
            blob = {"data": data, "mimeType": f"audio/pcm;rate={rate_hz}"}
            await self.send({"realtimeInput": {"audio": blob}})

    async def say(self, text: str) -> None:
        await self.send(
            {"clientContent": {"turns": [{"role": "user", "parts": [{"text": text}]}], "turnComplete": True}}
        )

    async def next(self, timeout_s: float = 5.0) -> Message:
        async with asyncio.timeout(timeout_s):
            message: Message = json.loads(await self.socket.recv())
        self.received.append(message)
        return message

    async def until(self, field: str, timeout_s: float = 5.0) -> Message:
        """Reads up to the message that has the field, at the top or in `serverContent`."""
        while True:
            message = await self.next(timeout_s)
            if field in message or field in message.get("serverContent", {}):
                return message

    async def turn(self, timeout_s: float = 5.0) -> list[Message]:
        """Reads the rest of the turn: everything up to `turnComplete`."""
        start = len(self.received)
        await self.until("turnComplete", timeout_s)
        return self.received[start:]

    async def closed(self, timeout_s: float = 5.0) -> tuple[int, str]:
        """Reads until the server closes; returns code and reason."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self.received.append(json.loads(await self.socket.recv()))
        except websockets.ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")

    async def close(self) -> None:
        await self.socket.close()


def order(messages: list[Message]) -> list[str]:
    """What the messages say, repetitions of the same kind counted once; handles are left out."""
    kinds: list[str] = []
    for message in messages:
        fields = message.get("serverContent", {})
        for kind in [*fields, *(key for key in message if key != "serverContent")]:
            if kind != "sessionResumptionUpdate" and (not kinds or kinds[-1] != kind):
                kinds.append(kind)
    return kinds


def texts(messages: list[Message], field: str) -> str:
    """The transcript in the messages: `inputTranscription` or `outputTranscription`."""
    pieces = [message.get("serverContent", {}).get(field) for message in messages]
    return "".join(piece["text"] for piece in pieces if piece)


def audio(messages: list[Message]) -> bytes:
    """The model's speech in the messages."""
    parts = [
        part
        for message in messages
        for part in message.get("serverContent", {}).get("modelTurn", {}).get("parts", [])
    ]
    return b"".join(base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part)
