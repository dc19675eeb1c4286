"""The last step of the way out: one connection's events, written one at a time.

One write is in flight; what waits is bounded. A reader that falls behind is let go of with an error
that it can resume from; the session lives on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from tornado_live.errors import LiveError, SlowReader
from tornado_live.sessions.events import Event, ExchangeUpdate, ReplyAudio

Render = Callable[[Event], list[str | bytes]]
Write = Callable[[str | bytes], Awaitable[None]]

MAX_WAITING_BYTES = 512 * 2**10
MAX_WRITE_S = 10.0


class Outbox:
    """Writes messages and events of one connection in the order they were given.

    Args:
        write: writes one frame; returns when the frame has left this process.
        on_stalled: called once when the reader has fallen too far behind.
    """

    def __init__(self, write: Write, on_stalled: Callable[[LiveError], None]) -> None:
        self._write = write
        self._on_stalled = on_stalled
        self._queue: deque[tuple[Event, Render] | str] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, frame: str) -> None:
        """A message that belongs to no log."""
        self._add(frame, len(frame))

    def put_event(self, event: Event, render: Render) -> None:
        self._add((event, render), event.body.size_bytes)

    def close(self) -> None:
        """Nothing more is written; what waits is dropped."""
        self._closed = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    async def drained(self) -> None:
        """Returns when everything has been written, or the outbox was closed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _add(self, item: tuple[Event, Render] | str, size_bytes: int) -> None:
        if self._closed:
            return
        self._queue.append(item)
        self._bytes += size_bytes
        if self._bytes > MAX_WAITING_BYTES and len(self._queue) > 1 and not _is_large(item):
            self._stalled()
        elif self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                if isinstance(item, str):
                    self._bytes -= len(item)
                    await self._write_frame(item)
                    continue
                event, render = item
                self._bytes -= event.body.size_bytes
                if isinstance(event.body, ReplyAudio) and event.body.exchange.silenced:
                    continue
                for frame in render(event):
                    await self._write_frame(frame)
        finally:
            self._task = None

    async def _write_frame(self, frame: str | bytes) -> None:
        try:
            await asyncio.wait_for(self._write(frame), MAX_WRITE_S)
        except TimeoutError:
            self._stalled()

    def _stalled(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.clear()
            self._on_stalled(SlowReader())


def _is_large(item: tuple[Event, Render] | str) -> bool:
    """A whole reply's audio may by itself be larger than the bound."""
    return not isinstance(item, str) and isinstance(item[0].body, ExchangeUpdate) and bool(item[0].body.audio)
