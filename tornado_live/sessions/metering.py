"""What a session uses, counted against its caller's limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Protocol

from tornado_live.errors import RateLimited

COUNT_EVERY_S = 1.0


class Meter(Protocol):
    """Counts what a caller uses; every method raises RateLimited where a limit is over."""

    async def open_session(self, key: str, lifetime_s: float) -> None: ...

    async def close_session(self, key: str) -> None: ...

    async def count_audio(self, seconds: float, size: int) -> None: ...

    async def count_tokens(self, tokens: int) -> None: ...


class Metering:
    """Counts one session in the background; a limit that is over shows at the next `check`.

    Attributes:
        meter: None counts nothing.
    """

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self._uncounted_s = 0.0
        self._uncounted_bytes = 0
        self._refusal: tuple[RateLimited, float] | None = None
        self._counting: set[asyncio.Task[None]] = set()

    async def open(self, meter: Meter, key: str, lifetime_s: float) -> None:
        """Raises RateLimited: the caller may have no further session."""
        await meter.open_session(key, lifetime_s)
        self.meter = meter

    def prolong(self, key: str, lifetime_s: float) -> None:
        """The session's place is held for longer."""
        if self.meter is not None:
            self._count(self.meter.open_session(key, lifetime_s))

    async def close(self, key: str) -> None:
        self._count_audio()
        if self._counting:
            await asyncio.wait(self._counting)
        if self.meter is not None:
            await self.meter.close_session(key)

    def check(self) -> None:
        """Raises RateLimited while a limit is over."""
        if self._refusal is None:
            return
        refusal, until_s = self._refusal
        if time.monotonic() < until_s:
            raise refusal
        self._refusal = None

    def received(self, size_bytes: int) -> None:
        self._uncounted_bytes += size_bytes

    def decoded(self, seconds: float) -> None:
        self._uncounted_s += seconds
        if self._uncounted_s >= COUNT_EVERY_S:
            self._count_audio()

    def tokens(self, tokens: int) -> None:
        if self.meter is not None:
            self._count(self.meter.count_tokens(tokens))

    def _count_audio(self) -> None:
        if self.meter is not None:
            seconds, self._uncounted_s = self._uncounted_s, 0.0
            size, self._uncounted_bytes = self._uncounted_bytes, 0
            self._count(self.meter.count_audio(seconds, size))

    def _count(self, counting: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(self._counted(counting))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def _counted(self, counting: Coroutine[None, None, None]) -> None:
        try:
            await counting
        except RateLimited as exc:
            self._refusal = (exc, time.monotonic() + (exc.retry_after_s or 0))
