"""Token buckets for what happens many times a second: no I/O, a microsecond or two."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from tornado_live.errors import RateLimited

_FORGIVEN_AFTER_S = 60.0


class TokenBucket:
    """Lets `rate` units a second through on average and `burst` at once.

    Args:
        clock: seconds, monotonic.
    """

    __slots__ = ("_burst", "_clock", "_filled_at", "_level", "_rate")

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._filled_at = clock()

    def wait_s(self, units: float = 1.0) -> float:
        """Seconds until that many units are there; 0.0: now. Takes nothing."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return max(0.0, (min(units, self._burst) - self._level) / self._rate)

    def take(self, units: float = 1.0) -> float:
        """0.0, having taken the units; or, having taken nothing, the seconds until there are as many.

        More than the burst is never there at once: asked for more, a full bucket gives it and then owes.
        """
        wait_s = self.wait_s(units)
        if wait_s == 0.0:
            self._level -= units
        return wait_s


class BucketTable:
    """One bucket for each name, of the names last seen.

    Args:
        size: how many buckets are kept; the one unused longest goes first, and begins full again.
    """

    def __init__(
        self, rate: float, burst: float, *, size: int = 16_384, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._size = size
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def bucket(self, name: str) -> TokenBucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._rate, self._burst, clock=self._clock)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)


class MessageGate:
    """How fast one connection may send.

    Attributes:
        exhausted: it went on too fast after it was told; close it.
    """

    STRIKES = 3
    PINGS_PER_S = 5.0

    def __init__(
        self, buckets: Sequence[TokenBucket], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._buckets = buckets
        self._pings = TokenBucket(self.PINGS_PER_S, 2 * self.PINGS_PER_S, clock=clock)
        self._clock = clock
        self._strikes = 0
        self._told_at = -math.inf

    @property
    def pause_s(self) -> float:
        """How long not to read, now that a message was refused: what is not read need not be handled."""
        return max((bucket.wait_s() for bucket in self._buckets), default=0.0)

    @property
    def exhausted(self) -> bool:
        return self._strikes >= self.STRIKES

    def admit_message(self) -> bool:
        """True: handle the message. False: drop it; the client was told less than a second ago.

        Raises:
            RateLimited: drop it and tell the client, who must slow down within a second.
        """
        wait_s = max((bucket.take() for bucket in self._buckets), default=0.0)
        if wait_s == 0.0:
            return True
        now = self._clock()
        if now - self._told_at < 1.0:
            return False
        self._strikes = self._strikes + 1 if now - self._told_at < _FORGIVEN_AFTER_S else 1
        self._told_at = now
        raise RateLimited("Too many messages on this connection; slow down.", retry_after_s=wait_s)

    def admit_ping(self) -> bool:
        """False: nobody needs that many pings; close the connection."""
        return self._pings.take() == 0.0
