"""What limits count with, and the counters of one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Count(NamedTuple):
    """How much of a fixed window is used.

    Attributes:
        share: of the limit that this counter stands for; less than 1 where it sees only its own part.
    """

    used: int
    resets_in_s: float
    share: float = 1.0


class Counters(Protocol):
    """Counts and holds by name. A window begins with its first unit; a hold ends by itself in time.

    Attributes:
        batch_s: seconds of audio that are worth one call.
    """

    batch_s: float

    async def add(self, name: str, amount: int, window_s: int) -> Count:
        """Counts the amount, whether or not a limit is passed by it; 0 only looks."""

    async def hold(self, name: str, member: str, limit: int, lifetime_s: float) -> float:
        """0.0: the member holds a place, for that long unless it holds again or lets go.

        Otherwise, with `limit` others there, the seconds until the first of their places falls free.
        """

    async def let_go(self, name: str, member: str) -> None: ...

    async def held(self, name: str) -> int:
        """How many places are held."""

    async def close(self) -> None: ...


class MemoryCounters:
    """Counters of one process, forgotten at its end.

    Args:
        clock: seconds, monotonic.
    """

    # Why not `limits.aio.storage.MemoryStorage`: it goes through all its keys at each hit (0.7 ms with
    # 10,000 of them, where this takes 1 µs).

    batch_s = 0.0

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}
        self._holds: dict[str, dict[str, float]] = {}
        self._sweep_at_size = 1024

    async def add(self, name: str, amount: int, window_s: int) -> Count:
        now = self._clock()
        used, ends_at = self._windows.get(name, (0, 0.0))
        if ends_at <= now:
            used, ends_at = 0, now + window_s
        if amount:
            self._windows[name] = used + amount, ends_at
            if len(self._windows) >= self._sweep_at_size:
                self._sweep(now)
        return Count(used + amount, ends_at - now)

    async def hold(self, name: str, member: str, limit: int, lifetime_s: float) -> float:
        now = self._clock()
        places = self._live_places(name)
        if member not in places and len(places) >= limit:
            return min(places.values()) - now
        places[member] = now + lifetime_s
        self._holds[name] = places
        return 0.0

    async def let_go(self, name: str, member: str) -> None:
        places = self._live_places(name)
        places.pop(member, None)
        if not places:
            self._holds.pop(name, None)

    async def held(self, name: str) -> int:
        return len(self._live_places(name))

    async def close(self) -> None:
        """Nothing to do."""

    def __len__(self) -> int:
        return len(self._windows)

    def _live_places(self, name: str) -> dict[str, float]:
        now = self._clock()
        places = self._holds.get(name, {})
        for member in [member for member, ends_at in places.items() if ends_at <= now]:
            del places[member]
        return places

    def _sweep(self, now: float) -> None:
        self._windows = {name: window for name, window in self._windows.items() if window[1] > now}
        # Twice what is in use: each sweep is paid for by as many additions.
        self._sweep_at_size = max(1024, 2 * len(self._windows))
