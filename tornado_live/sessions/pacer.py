"""Holds the reply's voice back, so that an interruption drops what nobody has heard yet.

Gemini speaks faster than real time, in pieces of some 40 ms. What is more than `lead_s` ahead of
playback stays here as PCM, and leaves in larger pieces: each costs an event, a frame and a wake-up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from tornado_live.audio import REPLY
from tornado_live.sessions.transcript import Exchange

PIECE_S = 0.2
"""What is released at a time, once the lead has been used up."""


class Pacer:
    """Releases one session's reply audio at most `lead_s` ahead of its playback.

    Args:
        release: takes each piece when its time has come.
    """

    def __init__(self, lead_s: float, release: Callable[[Exchange, bytes], None]) -> None:
        self._lead_s = lead_s
        self._piece_s = min(PIECE_S, lead_s / 2)
        self._release = release
        self._queue: deque[tuple[Exchange, bytes]] = deque()
        self._play_end_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def add(self, exchange: Exchange, pcm: bytes) -> None:
        self._queue.append((exchange, pcm))
        self._empty.clear()
        if self._timer is None:
            self._run()

    def drop(self) -> None:
        """Barge-in: what has not been released never will be."""
        self._queue.clear()
        self._play_end_s = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._empty.set()

    def holds(self, exchange: Exchange) -> bool:
        """Audio of the exchange waits to be released."""
        return any(queued is exchange for queued, _ in self._queue)

    async def played(self, exchange: Exchange) -> None:
        """Returns when the exchange's audio has been released or dropped."""
        if self.holds(exchange):
            await self._empty.wait()

    def _run(self) -> None:
        self._timer = None
        while self._queue:
            now_s = time.monotonic()
            self._play_end_s = max(self._play_end_s, now_s)
            ahead_s = self._play_end_s - now_s
            count, piece_s = self._next_piece()
            if ahead_s > 0 and ahead_s + piece_s > self._lead_s:
                # until a whole piece fits, even if less is waiting yet
                wait_s = min(ahead_s, ahead_s + max(piece_s, self._piece_s) - self._lead_s)
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._run)
                return
            exchange = self._queue[0][0]
            pcm = b"".join(self._queue.popleft()[1] for _ in range(count))
            self._play_end_s += piece_s
            self._release(exchange, pcm)
        self._empty.set()

    def _next_piece(self) -> tuple[int, float]:
        """How many of those that wait leave together, and for how many seconds they play."""
        count, seconds, first = 0, 0.0, self._queue[0][0]
        for exchange, pcm in self._queue:
            if exchange is not first or seconds >= self._piece_s:
                break
            count += 1
            seconds += REPLY.seconds(len(pcm))
        return count, seconds
