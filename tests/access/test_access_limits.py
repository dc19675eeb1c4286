"""Limits per owner, per address and for all together, with the numbers that clients are told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tornado_live.access.counters import MemoryCounters
from tornado_live.access.identity import Caller
from tornado_live.access.limits import Account, Limiter
from tornado_live.errors import RateLimited
from tornado_live.settings import LimitSettings, QuotaSettings

MARY = Caller(owner="key:mary", name="mary", kind="key")
JOHN = Caller(owner="key:john", name="john", kind="key")
WEBSITE = Caller(owner="key:website", name="website", kind="key", shared=True)
ANYONE = Caller(owner="anonymous", name="anonymous")
HERE, THERE = "203.0.113.9", "203.0.113.10"


def limiter(clock: Any, *, sessions_per_owner: int = 0, **settings: Any) -> Limiter:
    quotas = {"requests_per_minute": 0, "messages_per_second": 0, **settings}
    return Limiter(LimitSettings(**quotas), sessions_per_owner=sessions_per_owner, clock=clock)


async def refusal_of(account: Account, calls: int = 1) -> RateLimited | None:
    try:
        for _ in range(calls):
            await account.count_request()
    except RateLimited as refusal:
        return refusal
    return None


@pytest.mark.gen_test
async def test_requests_are_counted_to_the_last_one(clock) -> None:
    account = limiter(clock, requests_per_minute=5).account(MARY, HERE)
    assert await refusal_of(account, 5) is None
    clock.advance(20)
    refusal = await refusal_of(account)
    assert refusal is not None
    assert refusal.retry_after_s == pytest.approx(40)
    assert "5 requests a minute" in refusal.message
    assert "40 seconds" in refusal.message
    clock.advance(refusal.retry_after_s)
    assert await refusal_of(account, 5) is None


@pytest.mark.gen_test
async def test_one_owner_counts_over_all_its_connections_and_addresses(clock) -> None:
    limits = limiter(clock, requests_per_minute=2)
    assert await refusal_of(limits.account(MARY, HERE)) is None
    assert await refusal_of(limits.account(MARY, THERE)) is None
    assert await refusal_of(limits.account(MARY, HERE)) is not None
    assert await refusal_of(limits.account(JOHN, HERE)) is None


@pytest.mark.parametrize("caller", [WEBSITE, ANYONE])
@pytest.mark.gen_test
async def test_what_many_people_share_counts_per_address(clock, caller: Caller) -> None:
    limits = limiter(clock, requests_per_minute=1)
    assert await refusal_of(limits.account(caller, HERE), 2) is not None
    assert await refusal_of(limits.account(caller, THERE)) is None


@pytest.mark.gen_test
async def test_an_address_counts_over_all_its_owners(clock) -> None:
    limits = limiter(clock, per_address=QuotaSettings(requests_per_minute=2))
    assert await refusal_of(limits.account(MARY, HERE)) is None
    assert await refusal_of(limits.account(JOHN, HERE)) is None
    refusal = await refusal_of(limits.account(WEBSITE, HERE))
    assert refusal is not None
    assert "from this address" in refusal.message
    assert await refusal_of(limits.account(MARY, THERE)) is None


@pytest.mark.gen_test
async def test_one_owners_refused_requests_use_up_nothing_of_the_others(clock) -> None:
    limits = limiter(clock, requests_per_minute=1, total=QuotaSettings(requests_per_minute=3))
    for _ in range(100):
        await refusal_of(limits.account(MARY, HERE))
    assert await refusal_of(limits.account(JOHN, HERE)) is None
    assert await refusal_of(limits.account(WEBSITE, HERE)) is None
    refusal = await refusal_of(limits.account(ANYONE, HERE))
    assert refusal is not None
    assert "all callers together" in refusal.message


@pytest.mark.gen_test
async def test_a_keys_own_limits_replace_what_they_name(clock) -> None:
    limits = limiter(clock, requests_per_minute=1, new_sessions_per_minute=1)
    free = Caller(owner="key:free", name="free", kind="key", limits=QuotaSettings(requests_per_minute=0))
    account = limits.account(free, HERE)
    assert await refusal_of(account, 100) is None
    await account.open_session("s1", 900)
    with pytest.raises(RateLimited, match="1 new sessions"):
        await account.open_session("s2", 900)


@pytest.mark.gen_test
async def test_headers_tell_what_is_left(clock) -> None:
    account = limiter(clock, requests_per_minute=10).account(MARY, HERE)
    assert account.headers() == {}
    await refusal_of(account, 3)
    clock.advance(0.5)
    await refusal_of(account)
    assert account.headers() == {
        "RateLimit-Policy": '"requests";q=10;w=60',
        "RateLimit": '"requests";r=6;t=60',
    }
    await refusal_of(account, 100)
    assert account.headers()["RateLimit"].startswith('"requests";r=0;')


@pytest.mark.gen_test
async def test_without_a_limit_there_are_no_headers(clock) -> None:
    account = limiter(clock).account(MARY, HERE)
    await account.count_request()
    assert account.headers() == {}


@pytest.mark.gen_test
async def test_fifty_openings_at_once_get_exactly_the_places_there_are(clock) -> None:
    limits = limiter(clock, sessions_per_owner=3)
    opened = await asyncio.gather(
        *(limits.account(MARY, HERE).open_session(f"s{n}", 900) for n in range(50)), return_exceptions=True
    )
    refusals = [result for result in opened if result is not None]
    assert len(refusals) == 47
    for refusal in refusals:
        assert isinstance(refusal, RateLimited)
        assert refusal.retry_after_s == pytest.approx(900)


@pytest.mark.gen_test
async def test_a_place_falls_free_when_the_session_ends(clock) -> None:
    limits = limiter(clock, sessions=1)
    account = limits.account(MARY, HERE)
    await account.open_session("s1", 900)
    with pytest.raises(RateLimited):
        await limits.account(MARY, HERE).open_session("s2", 900)
    await account.close_session("s1")
    await account.close_session("s1")
    await limits.account(MARY, HERE).open_session("s2", 900)


@pytest.mark.gen_test
async def test_a_place_falls_free_when_the_session_must_have_ended(clock) -> None:
    limits = limiter(clock, sessions=1)
    await limits.account(MARY, HERE).open_session("s1", 900)
    clock.advance(900)
    await limits.account(MARY, HERE).open_session("s2", 900)


@pytest.mark.gen_test
async def test_a_session_that_is_prolonged_keeps_its_place_and_is_not_new(clock) -> None:
    limits = limiter(clock, sessions=1, new_sessions_per_minute=1)
    account = limits.account(MARY, HERE)
    await account.open_session("s1", 900)
    clock.advance(890)
    await account.open_session("s1", 900)
    clock.advance(30)
    with pytest.raises(RateLimited, match="sessions at once"):
        await limits.account(MARY, HERE).open_session("s2", 900)


@pytest.mark.gen_test
async def test_a_session_that_may_not_be_made_holds_no_place(clock) -> None:
    limits = limiter(clock, sessions=2, new_sessions_per_minute=1)
    await limits.account(MARY, HERE).open_session("s1", 900)
    with pytest.raises(RateLimited, match="new sessions"):
        await limits.account(MARY, HERE).open_session("s2", 900)
    clock.advance(60)
    await limits.account(MARY, HERE).open_session("s3", 900)


@pytest.mark.gen_test
async def test_visitors_of_a_website_do_not_take_each_others_places(clock) -> None:
    limits = limiter(clock, sessions=1)
    await limits.account(WEBSITE, HERE).open_session("s1", 900)
    await limits.account(WEBSITE, THERE).open_session("s2", 900)
    with pytest.raises(RateLimited):
        await limits.account(WEBSITE, HERE).open_session("s3", 900)


@pytest.mark.gen_test
async def test_the_days_audio_is_used_up_once_and_back_the_next_day(clock) -> None:
    limits = limiter(clock, audio_seconds_per_day=10)
    account = limits.account(MARY, HERE)
    for _ in range(40):
        await account.count_audio(0.25, 4000)
    with pytest.raises(RateLimited, match="10 seconds of audio a day") as caught:
        await account.count_audio(0.25, 4000)
    assert caught.value.retry_after_s == pytest.approx(86_400)
    with pytest.raises(RateLimited):
        await limits.account(MARY, HERE).open_session("s1", 900)
    clock.advance(86_400)
    await limits.account(MARY, HERE).open_session("s1", 900)
    await account.count_audio(0.25, 4000)


@pytest.mark.gen_test
async def test_pieces_of_audio_shorter_than_a_millisecond_add_up(clock) -> None:
    account = limiter(clock, audio_seconds_per_day=1).account(MARY, HERE)
    for _ in range(4000):
        await account.count_audio(0.00025, 4)
    await account.count_audio(0.0005, 4)
    with pytest.raises(RateLimited):
        await account.count_audio(0.0005, 4)


@pytest.mark.gen_test
async def test_bytes_of_audio_are_counted_by_the_minute(clock) -> None:
    account = limiter(clock, audio_bytes_per_minute=10_000).account(MARY, HERE)
    await account.count_audio(0.25, 10_000)
    with pytest.raises(RateLimited, match="10000 bytes of audio a minute"):
        await account.count_audio(0.25, 1)
    clock.advance(60)
    await account.count_audio(0.25, 10_000)


@pytest.mark.gen_test
async def test_tokens_are_counted_as_the_model_bills_them(clock) -> None:
    limits = limiter(clock, tokens_per_day=1000)
    account = limits.account(MARY, HERE)
    await account.count_tokens(999)
    await limits.account(MARY, HERE).open_session("s1", 900)
    with pytest.raises(RateLimited, match="1000 tokens a day"):
        await account.count_tokens(500)
    with pytest.raises(RateLimited, match="1000 tokens a day"):
        await limits.account(MARY, HERE).open_session("s2", 900)


@pytest.mark.gen_test
async def test_settling_at_the_end_refuses_nothing(clock) -> None:
    account = limiter(clock, audio_seconds_per_day=1).account(MARY, HERE)
    with pytest.raises(RateLimited):
        await account.count_audio(5.0, 1)
    await account.settle()


@pytest.mark.gen_test
async def test_status_tells_every_limit_at_its_tightest(clock) -> None:
    limits = limiter(
        clock,
        requests_per_minute=100,
        messages_per_second=60,
        sessions=5,
        audio_seconds_per_day=3600,
        per_address=QuotaSettings(requests_per_minute=50, messages_per_second=200),
    )
    account = limits.account(MARY, HERE)
    await refusal_of(account, 10)
    await account.open_session("s1", 900)
    await account.count_audio(1.5, 1000)
    clock.advance(20)
    assert await account.status() == {
        "messagesPerSecond": {"limit": 60},
        "requestsPerMinute": {"limit": 50, "remaining": 40, "resetsInMs": 40_000},
        "newSessionsPerMinute": {"limit": None, "remaining": None, "resetsInMs": None},
        "audioBytesPerMinute": {"limit": None, "remaining": None, "resetsInMs": None},
        "audioSecondsPerDay": {"limit": 3600, "remaining": 3598, "resetsInMs": 86_380_000},
        "tokensPerDay": {"limit": None, "remaining": None, "resetsInMs": None},
        "sessions": {"limit": 5, "remaining": 4},
    }


@pytest.mark.gen_test
async def test_status_of_what_was_never_used_is_the_whole_limit(clock) -> None:
    status = await limiter(clock, requests_per_minute=7).account(MARY, HERE).status()
    assert status["requestsPerMinute"] == {"limit": 7, "remaining": 7, "resetsInMs": 0}


def test_an_address_has_one_message_rate_over_all_its_connections(clock) -> None:
    limits = limiter(clock, per_address=QuotaSettings(messages_per_second=10))
    gates = [limits.account(caller, HERE).message_gate() for caller in (MARY, JOHN)]
    assert all(gate.admit_message() for gate in gates * 10)
    for gate in gates:
        with pytest.raises(RateLimited):
            gate.admit_message()
    assert limits.account(MARY, THERE).message_gate().admit_message()


@pytest.mark.gen_test
async def test_windows_that_are_over_are_forgotten(clock) -> None:
    counters = MemoryCounters(clock=clock)
    for minute in range(10):
        for number in range(2000):
            await counters.add(f"requests/{minute}.{number}", 1, 60)
        clock.advance(61)
    assert len(counters) <= 5000


@pytest.mark.gen_test
async def test_counting_a_request_takes_microseconds_with_ten_thousand_names() -> None:
    limits = Limiter(LimitSettings(requests_per_minute=10_000))
    for number in range(10_000):
        await limits.account(ANYONE, f"10.0.{number >> 8}.{number & 255}").count_request()
    start = time.perf_counter()
    for _ in range(1000):
        await limits.account(MARY, HERE).count_request()
    assert (time.perf_counter() - start) / 1000 < 200e-6
