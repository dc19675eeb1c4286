"""The real SDK over real sockets, and the emulator at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tornado_live.emulator import Emulator, EmulatorOptions
from tornado_live.settings.models import GeminiSettings
from tornado_live.upstream.base import ConnectionEvent, UpstreamConnection
from tornado_live.upstream.gemini import GeminiConnector

KEY = "AIza-canary-4711"
QUICK = {"fast_turn_complete": True, "speed": 50}
"""Replies that do not take as long as they would to play."""


@asynccontextmanager
async def emulator(
    scenario: Mapping[str, Any] | None = None, *, time_scale: float = 1.0
) -> AsyncIterator[Emulator]:
    """An emulator with scripted ears, for this scenario."""
    options = EmulatorOptions(
        ears="scripted", voice="tone", scenario={"pace": QUICK} | dict(scenario or {}), time_scale=time_scale
    )
    one = Emulator(options)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@asynccontextmanager
async def connector_to(one: Emulator, **settings: Any) -> AsyncIterator[GeminiConnector]:
    """A connector to it, started, with these settings."""
    connector = GeminiConnector(
        GeminiSettings(**settings), api_key=KEY, base_url=one.url, ca_file=one.ca_file
    )
    await connector.start()
    try:
        yield connector
    finally:
        await connector.close()


@asynccontextmanager
async def live(
    scenario: Mapping[str, Any] | None = None, *, time_scale: float = 1.0, **settings: Any
) -> AsyncIterator[GeminiConnector]:
    """A connector to an emulator of its own."""
    async with emulator(scenario, time_scale=time_scale) as one, connector_to(one, **settings) as connector:
        yield connector


async def events_until(connection: UpstreamConnection, last: type[Any]) -> list[ConnectionEvent]:
    """Everything up to and including the message with the first event of this type."""
    heard: list[ConnectionEvent] = []
    async with asyncio.timeout(10):
        async for events in connection.receive():
            heard.extend(events)
            if any(isinstance(event, last) for event in events):
                return heard
    raise AssertionError("the connection ended")


async def speak(connection: UpstreamConnection, pcm: bytes) -> None:
    """Sends it in pieces of a quarter of a second, as fast as the socket takes them."""
    for start in range(0, len(pcm), 8000):
        await connection.send_audio(pcm[start : start + 8000])


def joined(events: list[Any], kind: type[Any]) -> str:
    """The texts of the events of this type."""
    return "".join(event.text for event in events if isinstance(event, kind))
