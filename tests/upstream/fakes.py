"""A model made by hand: connections that record what they are sent and say what the test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from support import until

from tornado_live.errors import UpstreamError
from tornado_live.upstream.base import (
    ConnectionEvent,
    HistoryTurn,
    LinkEvent,
    UpstreamConnection,
    UpstreamSetup,
)
from tornado_live.upstream.closing import ConnectionClosed
from tornado_live.upstream.link import Link
from tornado_live.upstream.models import PROFILES
from tornado_live.upstream.policy import LinkPolicy

TRAILING = PROFILES["gemini-3.8-live"]
"""Needs trailing audio and ignores audioStreamEnd."""

FAST = LinkPolicy(
    silence_after_s=0.15,
    silence_after_unknown_s=0.25,
    silence_piece_s=0.02,
    silence_burst_s=0.1,
    silence_max_s=0.3,
    backoff_s=(0.02, 0.04, 0.08),
    dial_window_s=3.0,
    outage_max_s=2.0,
    first_outage_max_s=0.3,
    stable_after_s=1.0,
    rotate_margin_s=0.5,
    rotate_reserve_s=0.2,
    quiet_s=0.05,
    stall_s=0.8,
    thinking_stall_s=2.4,
    late_audio_s=0.2,
)
"""The usual rules at ten times the usual speed."""


def speech(duration_s: float, value: int = 8000) -> bytes:
    """Loud `TARGET` samples, all alike, so that a test can tell one stretch from another."""
    return value.to_bytes(2, "little", signed=True) * round(duration_s * 16_000)


def quiet(duration_s: float) -> bytes:
    """`TARGET` samples that are neither loud nor the link's own silence."""
    return speech(duration_s, 7)


class FakeConnection:
    """Fulfils `UpstreamConnection`.

    Attributes:
        sent: what was sent, in order: `("audio", pcm)`, `("text", …)`, `("activity_start",)`, …
    """

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.sent_at: list[float] = []
        self.closed = False
        self._incoming: asyncio.Queue[list[ConnectionEvent] | UpstreamError] = asyncio.Queue()
        self._error: UpstreamError | None = None

    def say(self, *events: ConnectionEvent) -> None:
        """One message of the model."""
        self._incoming.put_nowait(list(events))

    def cut(self, error: UpstreamError | None = None) -> None:
        """The model, or the network, closes the connection."""
        self._error = error or ConnectionClosed(1006)
        self._incoming.put_nowait(self._error)

    @property
    def pcm(self) -> bytes:
        """All audio that was sent."""
        return b"".join(item[1] for item in self.sent if item[0] == "audio")

    @property
    def real_pcm(self) -> bytes:
        """The audio without the messages that hold nothing but silence."""
        return b"".join(item[1] for item in self.sent if item[0] == "audio" and any(item[1]))

    @property
    def silence_s(self) -> float:
        """Seconds of pure silence that were sent."""
        return sum(len(item[1]) for item in self.sent if item[0] == "audio" and not any(item[1])) / 32_000

    def _record(self, *item: Any) -> None:
        if self._error is not None:
            raise self._error
        self.sent.append(item)
        self.sent_at.append(asyncio.get_running_loop().time())

    async def send_audio(self, pcm: bytes) -> None:
        self._record("audio", pcm)

    async def send_text(self, text: str) -> None:
        self._record("text", text)

    async def send_activity_start(self) -> None:
        self._record("activity_start")

    async def send_activity_end(self) -> None:
        self._record("activity_end")

    async def send_audio_stream_end(self) -> None:
        self._record("audio_stream_end")

    async def send_history(self, turns: Sequence[HistoryTurn]) -> None:
        self._record("history", tuple(turns))

    async def receive(self) -> AsyncIterator[list[ConnectionEvent]]:
        while True:
            incoming = await self._incoming.get()
            if isinstance(incoming, UpstreamError):
                raise incoming
            yield incoming


@dataclass(slots=True)
class Dial:
    """One call of `connect`."""

    handle: str | None
    seeded: bool
    at: float
    entered_by: object = None
    left_by: object = None
    open_connections: int = 0


@dataclass
class FakeConnector:
    """Fulfils `Connector`.

    Attributes:
        answers: what happens to each dial in turn: None accepts, an error refuses, an Event waits for
            it and accepts. When they are used up, `default` answers.
    """

    answers: list[UpstreamError | asyncio.Event | None] = field(default_factory=list)
    default: UpstreamError | None = None
    dials: list[Dial] = field(default_factory=list)
    connections: list[FakeConnection] = field(default_factory=list)

    @asynccontextmanager
    async def connect(
        self, setup: UpstreamSetup, *, handle: str | None = None, seeded: bool = False
    ) -> AsyncGenerator[UpstreamConnection]:
        dial = Dial(handle, seeded, asyncio.get_running_loop().time(), asyncio.current_task())
        dial.open_connections = sum(not one.closed for one in self.connections)
        self.dials.append(dial)
        answer = self.answers.pop(0) if self.answers else self.default
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        elif answer is not None:
            raise answer
        connection = FakeConnection()
        self.connections.append(connection)
        try:
            yield connection
        finally:
            connection.closed = True
            dial.left_by = asyncio.current_task()

    async def connection(self, index: int = 0, timeout_s: float = 5.0) -> FakeConnection:
        """The connection of this number, as soon as it is there."""
        await until(lambda: len(self.connections) > index, timeout_s)
        return self.connections[index]


class Ears:
    """Takes a link's events."""

    def __init__(self) -> None:
        self.events: list[LinkEvent] = []

    def __call__(self, event: LinkEvent) -> None:
        self.events.append(event)

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def hears(self, kind: type[Any], count: int = 1, timeout_s: float = 5.0) -> Any:
        """The event of this kind and number, as soon as it is there."""
        await until(lambda: len(self.all(kind)) >= count, timeout_s)
        return self.all(kind)[count - 1]


LinkMaker = Callable[..., Link]


def make_link(connector: Any, ears: Ears, policy: LinkPolicy = FAST, **changes: Any) -> Link:
    """A link that is not started; `changes` are fields of the set-up or the profile, or arguments."""
    arguments = {name: changes.pop(name) for name in ("history", "handle") if name in changes}
    profile = replace(TRAILING, **{k: v for k, v in changes.items() if hasattr(TRAILING, k)})
    setup = UpstreamSetup(profile.name, **{k: v for k, v in changes.items() if not hasattr(TRAILING, k)})
    return Link(connector, setup, profile, ears, policy=policy, **arguments)
