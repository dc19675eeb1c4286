"""Limits that many servers count together, in Redis or Valkey. Needs the `redis` extra."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from limits.aio.storage import RedisStorage
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tornado_live.access.counters import Count, MemoryCounters
from tornado_live.errors import SettingsError

_log = structlog.get_logger(__name__)
_PREFIX = "tornado-live:limits"

T = TypeVar("T")

# Times by the Redis server's clock: those of several servers differ.
_HOLD = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
    return tostring(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] - now)
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('EXPIREAT', KEYS[1], math.ceil(redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]) + 1)
return '0'
"""

_HELD = """
local time = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], '(' .. (time[1] + time[2] / 1000000), '+inf')
"""


class RedisCounters:
    """Counters that all servers of one Redis (or Valkey) share.

    Raises:
        SettingsError: the address is wrong.
        RedisError: from each method, when the server does not answer within `timeout_s`.
    """

    batch_s = 5.0

    def __init__(
        self, url: str, *, timeout_s: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )
            self._storage = RedisStorage(
                # Where to connect is the pool's matter; `limits` takes a unix:// for one of Valkey's client.
                "redis://",
                implementation="redispy",
                key_prefix=_PREFIX,
                connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]
            )
        except ValueError:
            raise SettingsError(["limits.redis_url: is not the address of a Redis server"]) from None
        self._hold = self._redis.register_script(_HOLD)
        self._held = self._redis.register_script(_HELD)
        self._clock = clock
        self._ends_at: dict[str, float] = {}

    async def add(self, name: str, amount: int, window_s: int) -> Count:
        if amount:
            used = await self._storage.incr(name, window_s, amount)
        else:
            used = await self._storage.get(name)
        return Count(used, await self._resets_in_s(name, window_s, is_new=used == amount))

    async def hold(self, name: str, member: str, limit: int, lifetime_s: float) -> float:
        return float(await self._hold([f"{_PREFIX}:{name}"], [member, limit, lifetime_s]))

    async def let_go(self, name: str, member: str) -> None:
        await self._redis.zrem(f"{_PREFIX}:{name}", member)

    async def held(self, name: str) -> int:
        return int(await self._held([f"{_PREFIX}:{name}"]))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _resets_in_s(self, name: str, window_s: int, *, is_new: bool) -> float:
        """Asked of Redis once for each window, then known."""
        now = self._clock()
        ends_at = self._ends_at.get(name, 0.0)
        if is_new:
            ends_at = now + window_s
        elif ends_at <= now:
            # Redis tells whole seconds, rounded: half of one more makes sure the window is over then.
            ends_at = now + await self._storage.get_expiry(name) - time.time() + 0.5
        if len(self._ends_at) > 4096:
            self._ends_at = {name: ends_at for name, ends_at in self._ends_at.items() if ends_at > now}
        self._ends_at[name] = ends_at
        return max(0.0, ends_at - now)


class FallbackCounters:
    """Counts in Redis, and for as long as it does not answer in memory, at half of each limit.

    Half, because the other servers count for themselves as well then: too much is let through at
    worst, but never everything, and nobody is locked out because a counter is gone.

    Args:
        retry_s: how long Redis is left alone after a failure.
    """

    def __init__(
        self, shared: RedisCounters, *, retry_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.batch_s = shared.batch_s
        self._shared = shared
        self._own = MemoryCounters(clock=clock)
        self._retry_s = retry_s
        self._clock = clock
        self._retry_at = -math.inf
        self._failing = False

    async def add(self, name: str, amount: int, window_s: int) -> Count:
        count = await self._try(lambda: self._shared.add(name, amount, window_s))
        if count is None:
            count = (await self._own.add(name, amount, window_s))._replace(share=0.5)
        return count

    async def hold(self, name: str, member: str, limit: int, lifetime_s: float) -> float:
        wait_s = await self._try(lambda: self._shared.hold(name, member, limit, lifetime_s))
        if wait_s is None:
            wait_s = await self._own.hold(name, member, max(1, limit // 2), lifetime_s)
        return wait_s

    async def let_go(self, name: str, member: str) -> None:
        await self._try(lambda: self._shared.let_go(name, member))
        await self._own.let_go(name, member)

    async def held(self, name: str) -> int:
        held = await self._try(lambda: self._shared.held(name))
        return await self._own.held(name) if held is None else held

    async def close(self) -> None:
        await self._shared.close()

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T | None:
        if self._clock() < self._retry_at:
            return None
        try:
            result = await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._retry_at = self._clock() + self._retry_s
            if not self._failing:
                _log.warning("limits_counted_in_memory", reason=type(error).__name__)
            self._failing = True
            return None
        if self._failing:
            _log.info("limits_counted_in_redis")
            self._failing = False
        return result
