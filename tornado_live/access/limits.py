"""How much each caller, each address and everyone together may use.

Three levels count one after the other, and the first that is used up refuses: the owner first, so that
one caller's refused requests use up nothing of the others'.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tornado_live.access.buckets import BucketTable, MessageGate, TokenBucket
from tornado_live.access.counters import Count, Counters, MemoryCounters
from tornado_live.access.identity import Caller
from tornado_live.access.proxies import address_group
from tornado_live.errors import RateLimited, SettingsError
from tornado_live.settings import LimitSettings, QuotaSettings


@dataclass(frozen=True, slots=True)
class Quota:
    """One kind of use.

    Attributes:
        setting: its field of QuotaSettings.
        window_s: length of the fixed window; 0 where nothing is counted over time.
        scale: counted units in one unit of the setting.
        words: completes "at most 60 …".
    """

    setting: str
    window_s: int
    words: str
    scale: int = 1


REQUESTS = Quota("requests_per_minute", 60, "requests a minute")
NEW_SESSIONS = Quota("new_sessions_per_minute", 60, "new sessions a minute")
AUDIO_BYTES = Quota("audio_bytes_per_minute", 60, "bytes of audio a minute")
AUDIO_SECONDS = Quota("audio_seconds_per_day", 86_400, "seconds of audio a day", scale=1000)
TOKENS = Quota("tokens_per_day", 86_400, "tokens a day")
SESSIONS = Quota("sessions", 0, "sessions at once")
MESSAGES = Quota("messages_per_second", 0, "messages a second")

_STRANGER_RATE = 10.0
"""Messages a second."""

_COUNTED = (REQUESTS, NEW_SESSIONS, AUDIO_BYTES, AUDIO_SECONDS, TOKENS)
_DAILY = (AUDIO_SECONDS, TOKENS)


class _Level(NamedTuple):
    """Whose use is counted: `name` in counters, `words` to the refused."""

    name: str
    words: str
    quotas: QuotaSettings

    def limit(self, quota: Quota) -> int:
        """In counted units; 0: none."""
        return int(getattr(self.quotas, quota.setting)) * quota.scale

    def counter(self, quota: Quota) -> str:
        return f"{quota.setting}/{self.name}"


class Limiter:
    """All limits of a server.

    Args:
        sessions_per_owner: sessions at once where `limits.sessions` says nothing; 0: no limit.
        clock: seconds, monotonic.

    Raises:
        SettingsError: `limits.redis_url` cannot be used.
    """

    def __init__(
        self,
        settings: LimitSettings,
        *,
        sessions_per_owner: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        quotas = {name: getattr(settings, name) for name in QuotaSettings.model_fields}
        self._owner_quotas = QuotaSettings.model_validate(
            quotas | {"sessions": settings.sessions or sessions_per_owner}
        )
        self._clock = clock
        self._counters = _counters(settings, clock)
        self._address_buckets = _table(settings.per_address.messages_per_second, clock)
        self._total_buckets = _table(settings.total.messages_per_second, clock)

    def stranger_gate(self, address: str) -> MessageGate:
        """For a WebSocket whose client has not said who it is: enough to do so."""
        buckets = self._shared_buckets(address_group(address))
        return MessageGate([TokenBucket(_STRANGER_RATE, 2 * _STRANGER_RATE, clock=self._clock), *buckets])

    def account(self, caller: Caller, address: str) -> Account:
        """What this caller may still use from that address. Cheap: one for each request or connection."""
        group = address_group(address)
        owner = f"{caller.owner}@{group}" if caller.counts_per_address else caller.owner
        quotas = self._quotas_of(caller)
        levels = [
            _Level(f"owner/{_short(owner)}", "of this caller", quotas),
            _Level(f"address/{_short(group)}", "from this address", self._settings.per_address),
            _Level("total", "of all callers together", self._settings.total),
        ]
        return Account(self._counters, levels, self._shared_buckets(group), self._clock)

    async def close(self) -> None:
        await self._counters.close()

    def _shared_buckets(self, group: str) -> list[TokenBucket]:
        tables = (self._address_buckets, group), (self._total_buckets, "")
        return [table.bucket(name) for table, name in tables if table is not None]

    def _quotas_of(self, caller: Caller) -> QuotaSettings:
        if caller.limits is None:
            return self._owner_quotas
        own = {name: getattr(caller.limits, name) for name in caller.limits.model_fields_set}
        return self._owner_quotas.model_copy(update=own)


class Account:
    """The limits of one caller at one address: each method counts, and raises RateLimited where it is over.

    `RateLimited.retry_after_s` is the time after which the same thing is counted anew.
    """

    def __init__(
        self,
        counters: Counters,
        levels: Sequence[_Level],
        buckets: Sequence[TokenBucket],
        clock: Callable[[], float],
    ) -> None:
        self._counters = counters
        self._levels = levels
        self._buckets = buckets
        self._clock = clock
        self._requests: Count | None = None
        self._unsettled_ms = 0.0
        self._unsettled_bytes = 0
        self._held: list[str] = []

    async def count_request(self) -> None:
        """One HTTP request, or the opening of a WebSocket."""
        await self._spend(REQUESTS, 1)

    def message_gate(self) -> MessageGate:
        """For one new WebSocket."""
        rate = self._levels[0].limit(MESSAGES)
        own = [TokenBucket(rate, 2 * rate, clock=self._clock)] if rate else []
        return MessageGate([*own, *self._buckets], clock=self._clock)

    async def open_session(self, key: str, lifetime_s: float) -> None:
        """Before a session is made, with its unguessable key: a place for it, and the day not used up.

        The place is held until `close_session`, at most for the lifetime; asked for again by the same
        key, it is prolonged.
        """
        for quota in _DAILY:
            for level in self._limited(quota):
                count = await self._counters.add(level.counter(quota), 0, quota.window_s)
                self._check(quota, level, count, needed=1)
        is_new = key not in self._held
        try:
            for level in self._limited(SESSIONS):
                limit = level.limit(SESSIONS)
                wait_s = await self._counters.hold(level.counter(SESSIONS), key, limit, lifetime_s)
                if wait_s > 0:
                    raise _refusal(SESSIONS, level, limit, wait_s)
            if is_new:
                await self._spend(NEW_SESSIONS, 1)
                self._held.append(key)
        except RateLimited:
            if is_new:
                await self.close_session(key)
            raise

    async def close_session(self, key: str) -> None:
        """After a session, however it ended; a second time does nothing."""
        if key in self._held:
            self._held.remove(key)
        for level in self._limited(SESSIONS):
            await self._counters.let_go(level.counter(SESSIONS), key)
        await self.settle()

    async def count_audio(self, seconds: float, size: int) -> None:
        """Decoded seconds, and bytes as they came."""
        self._unsettled_ms += seconds * 1000
        self._unsettled_bytes += size
        if self._unsettled_ms >= self._counters.batch_s * 1000:
            await self._settle()

    async def count_tokens(self, tokens: int) -> None:
        """What the model has just billed."""
        await self._spend(TOKENS, tokens)

    async def settle(self) -> None:
        """Counts what `count_audio` has put together for one call. Refuses nothing: it is used already."""
        try:
            await self._settle()
        except RateLimited:
            pass

    async def status(self) -> dict[str, Any]:
        """For `get_rate_limits` and `rateLimits`: of each limit what is left at its tightest level.

        `limit` is null where there is none; times are in ms.
        """
        status: dict[str, Any] = {_camel(MESSAGES.setting): {"limit": self._tightest_rate()}}
        for quota in _COUNTED:
            status[_camel(quota.setting)] = await self._counted_status(quota)
        places = [
            (level.limit(SESSIONS), await self._counters.held(level.counter(SESSIONS)))
            for level in self._limited(SESSIONS)
        ]
        limit, held = min(places, key=lambda place: place[0] - place[1], default=(None, 0))
        remaining = None if limit is None else max(0, limit - held)
        status[_camel(SESSIONS.setting)] = {"limit": limit, "remaining": remaining}
        return status

    def headers(self) -> dict[str, str]:
        """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10) of the requests.

        After `count_request`; empty where requests have no limit.
        """
        limit = self._levels[0].limit(REQUESTS)
        if not limit or self._requests is None:
            return {}
        count = self._requests
        remaining = max(0, _allowed(limit, count) - count.used)
        return {
            "RateLimit-Policy": f'"requests";q={limit};w={REQUESTS.window_s}',
            "RateLimit": f'"requests";r={remaining};t={math.ceil(count.resets_in_s)}',
        }

    async def _settle(self) -> None:
        # Taken before the first await: two calls at once must not count the same audio twice.
        milliseconds, self._unsettled_ms = int(self._unsettled_ms), self._unsettled_ms % 1
        size, self._unsettled_bytes = self._unsettled_bytes, 0
        refusals = []
        for quota, amount in ((AUDIO_SECONDS, milliseconds), (AUDIO_BYTES, size)):
            try:
                await self._spend(quota, amount)
            except RateLimited as refusal:
                refusals.append(refusal)
        if refusals:
            raise refusals[0]

    async def _spend(self, quota: Quota, amount: int) -> None:
        for level in self._limited(quota):
            count = await self._counters.add(level.counter(quota), amount, quota.window_s)
            if quota is REQUESTS and level is self._levels[0]:
                self._requests = count
            self._check(quota, level, count)

    def _check(self, quota: Quota, level: _Level, count: Count, *, needed: int = 0) -> None:
        limit = level.limit(quota)
        if count.used + needed > _allowed(limit, count):
            raise _refusal(quota, level, limit, count.resets_in_s)

    def _limited(self, quota: Quota) -> list[_Level]:
        return [level for level in self._levels if level.limit(quota)]

    def _tightest_rate(self) -> int | None:
        return min((level.limit(MESSAGES) for level in self._limited(MESSAGES)), default=None)

    async def _counted_status(self, quota: Quota) -> dict[str, Any]:
        tightest: dict[str, Any] = {"limit": None, "remaining": None, "resetsInMs": None}
        for level in self._limited(quota):
            count = await self._counters.add(level.counter(quota), 0, quota.window_s)
            limit = level.limit(quota)
            remaining = max(0, _allowed(limit, count) - count.used) // quota.scale
            if tightest["remaining"] is None or remaining < tightest["remaining"]:
                tightest = {
                    "limit": limit // quota.scale,
                    "remaining": remaining,
                    "resetsInMs": math.ceil(count.resets_in_s * 1000) if count.used else 0,
                }
        return tightest


def _allowed(limit: int, count: Count) -> int:
    return max(1, math.floor(limit * count.share))


def _refusal(quota: Quota, level: _Level, limit: int, wait_s: float) -> RateLimited:
    return RateLimited(
        f"The limit is {limit // quota.scale} {quota.words} {level.words}; "
        f"try again in {math.ceil(wait_s)} seconds.",
        retry_after_s=wait_s,
    )


def _counters(settings: LimitSettings, clock: Callable[[], float]) -> Counters:
    if settings.redis_url is None:
        return MemoryCounters(clock=clock)
    try:
        # Here, so that only those who count in Redis need its client.
        from tornado_live.access.redis_counters import FallbackCounters, RedisCounters
    except ImportError:
        raise SettingsError(["limits.redis_url: install the extra, tornado-live[redis]"]) from None
    return FallbackCounters(RedisCounters(settings.redis_url.get_secret_value(), clock=clock), clock=clock)


def _table(rate: int, clock: Callable[[], float]) -> BucketTable | None:
    return BucketTable(rate, 2 * rate, clock=clock) if rate else None


def _short(name: str) -> str:
    """Of one length and alphabet, whatever a token's subject holds; and Redis is told no names."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _camel(setting: str) -> str:
    first, *rest = setting.split("_")
    return first + "".join(word.capitalize() for word in rest)
