"""The last step of the way out: one connection's messages, written one at a time.

One write is in flight. A reader that falls behind is let go of with an error that it can resume from;
the session lives on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from tornado_live.errors import LiveError, SlowReader
from tornado_live.sessions.events import Event, ReplyAudio

Render = Callable[[Event], list[str | bytes]]
Write = Callable[[str | bytes], Awaitable[None]]

MAX_BEHIND_S = 5.0
"""The kernel holds four seconds of audio besides: later than this, the event log could not make it good."""
SLOWEST_BYTES_PER_S = 32 * 2**10
"""A reader that takes less is too slow for speech; a large frame has as much longer as it takes at this."""


class Outbox:
    """Writes messages and events of one connection in the order they were given.

    What waits is bounded by time: everything must have been written `MAX_BEHIND_S` after it was given, and
    a session's audio comes no faster than it is played.

    Args:
        write: writes one frame; returns when the frame has left this process.
        on_stalled: called once when the reader has fallen too far behind.
    """

    def __init__(self, write: Write, on_stalled: Callable[[LiveError], None]) -> None:
        self._write = write
        self._on_stalled = on_stalled
        self._first: deque[str] = deque()
        self._queue: deque[tuple[float, str | Event, Render | None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._deadline: float | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    def put(self, frame: str) -> None:
        """A message that belongs to no log, in its place among the events."""
        self._add(frame, None)

    def put_first(self, frame: str) -> None:
        """A message that overtakes what waits: an answer to the client, not part of the conversation."""
        if not self._closed:
            self._first.append(frame)
            self._start()

    def put_event(self, event: Event, render: Render) -> None:
        self._add(event, render)

    def close(self) -> None:
        """Nothing more is written; what waits is dropped."""
        self._closed = True
        self._first.clear()
        self._queue.clear()
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._task is not None:
            self._task.cancel()

    async def drained(self) -> None:
        """Returns when everything has been written, or the outbox was closed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _add(self, given: str | Event, render: Render | None) -> None:
        if not self._closed:
            self._queue.append((asyncio.get_running_loop().time(), given, render))
            self._start()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._first or self._queue:
                if self._first:
                    await self._write_by(loop.time() + MAX_BEHIND_S, self._first.popleft())
                    continue
                given_at, given, render = self._queue.popleft()
                for frame in _frames(given, render):
                    await self._write_by(given_at + MAX_BEHIND_S, frame)
        finally:
            self._task = None

    async def _write_by(self, deadline: float, frame: str | bytes) -> None:
        if self._closed:
            return
        self._deadline = deadline + len(frame) / SLOWEST_BYTES_PER_S
        if self._watchdog is None or self._watchdog.when() > self._deadline:
            if self._watchdog is not None:
                self._watchdog.cancel()
            self._watch()
        await self._write(frame)
        self._deadline = None

    def _watch(self) -> None:
        """One timer for many writes: a timeout around each would cost more than the write."""
        self._watchdog = None
        if self._deadline is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._watchdog = loop.call_at(self._deadline, self._watch)
        else:
            self._stalled()

    def _stalled(self) -> None:
        if not self._closed:
            self.close()
            self._on_stalled(SlowReader())


def _frames(given: str | Event, render: Render | None) -> list[str | bytes]:
    if isinstance(given, str):
        return [given]
    return [] if render is None or _silenced(given) else render(given)


def _silenced(event: Event) -> bool:
    """Audio of a reply that was interrupted while the audio waited."""
    return isinstance(event.body, ReplyAudio) and event.body.exchange.silenced
