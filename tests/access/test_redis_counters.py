"""Limits that servers share, on a real Redis, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tornado_live.access.identity import Caller
from tornado_live.access.limits import Limiter
from tornado_live.access.redis_counters import RedisCounters
from tornado_live.errors import RateLimited, SettingsError
from tornado_live.settings import LimitSettings

MARY = Caller(owner="key:mary", name="mary", kind="key")
HERE = "203.0.113.9"


class RedisServer:
    """A real server, on a Unix socket so that no port can be taken."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        options = {"port": "0", "unixsocket": str(self.socket), "save": "", "dir": str(folder)}
        self._command = ["redis-server"]
        for name, value in options.items():
            self._command += [f"--{name}", value]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                with Redis(unix_socket_path=str(self.socket)) as client:
                    client.ping()
                return
            except RedisConnectionError:
                assert time.monotonic() < deadline, "redis-server does not start"

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    assert shutil.which("redis-server"), "redis-server is not installed"
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def limiter(server: RedisServer, **settings: int) -> Limiter:
    quotas = {"requests_per_minute": 0, "messages_per_second": 0, **settings}
    return Limiter(LimitSettings(redis_url=server.url, **quotas))


async def requests_let_through(limits: Limiter, calls: int) -> int:
    let_through = 0
    for _ in range(calls):
        try:
            await limits.account(MARY, HERE).count_request()
            let_through += 1
        except RateLimited:
            pass
    return let_through


@pytest.mark.gen_test
async def test_two_servers_count_together(redis_server: RedisServer) -> None:
    one, two = limiter(redis_server, requests_per_minute=10), limiter(redis_server, requests_per_minute=10)
    assert await requests_let_through(one, 6) == 6
    assert await requests_let_through(two, 6) == 4
    account = two.account(MARY, HERE)
    with pytest.raises(RateLimited) as caught:
        await account.count_request()
    assert 55 < caught.value.retry_after_s <= 61
    assert account.headers()["RateLimit"].startswith('"requests";r=0;')
    await one.close()
    await two.close()


@pytest.mark.gen_test
async def test_two_servers_share_the_places_of_an_owner(redis_server: RedisServer) -> None:
    one, two = limiter(redis_server, sessions=3), limiter(redis_server, sessions=3)
    opened = await asyncio.gather(
        *(
            limits.account(MARY, HERE).open_session(f"{number}-{n}", 900)
            for number, limits in enumerate((one, two))
            for n in range(25)
        ),
        return_exceptions=True,
    )
    assert sum(result is None for result in opened) == 3
    refusal = next(result for result in opened if isinstance(result, RateLimited))
    assert 890 < refusal.retry_after_s <= 900
    assert (await two.account(MARY, HERE).status())["sessions"] == {"limit": 3, "remaining": 0}
    for n in range(25):
        await one.account(MARY, HERE).close_session(f"0-{n}")
        await one.account(MARY, HERE).close_session(f"1-{n}")
    await two.account(MARY, HERE).open_session("again", 900)
    await one.close()
    await two.close()


@pytest.mark.gen_test
async def test_a_place_of_a_server_that_died_falls_free(redis_server: RedisServer) -> None:
    counters = RedisCounters(redis_server.url)
    assert await counters.hold("sessions/x", "dead", 1, 0.05) == 0.0
    deadline = time.monotonic() + 5
    while await counters.hold("sessions/x", "alive", 1, 900) > 0:
        assert time.monotonic() < deadline
    assert await counters.held("sessions/x") == 1
    await counters.close()


@pytest.mark.gen_test
async def test_a_window_ends_when_it_says(redis_server: RedisServer) -> None:
    counters, other = RedisCounters(redis_server.url), RedisCounters(redis_server.url)
    first = await counters.add("requests/x", 1, 1)
    second = await other.add("requests/x", 1, 1)
    assert (first.used, second.used) == (1, 2)
    assert first.resets_in_s == 1.0
    deadline = time.monotonic() + second.resets_in_s
    while time.monotonic() < deadline:
        assert (await counters.add("requests/x", 0, 1)).resets_in_s <= 1.0
    assert await other.add("requests/x", 1, 1) == (1, 1.0, 1.0)
    await counters.close()
    await other.close()


@pytest.mark.gen_test
async def test_audio_is_counted_in_batches_and_to_the_end(redis_server: RedisServer) -> None:
    limits = limiter(redis_server, audio_seconds_per_day=100)
    account = limits.account(MARY, HERE)
    for _ in range(28):
        await account.count_audio(0.25, 4000)
    assert (await account.status())["audioSecondsPerDay"]["remaining"] == 95
    await account.settle()
    assert (await account.status())["audioSecondsPerDay"]["remaining"] == 93
    await limits.close()


@pytest.mark.gen_test
async def test_without_redis_half_of_each_limit_is_let_through(redis_server: RedisServer) -> None:
    limits = limiter(redis_server, requests_per_minute=10, sessions=4)
    await limits.account(MARY, HERE).count_request()
    redis_server.stop()
    assert await requests_let_through(limits, 20) == 5
    opened = await asyncio.gather(
        *(limits.account(MARY, HERE).open_session(f"s{n}", 900) for n in range(10)), return_exceptions=True
    )
    assert sum(result is None for result in opened) == 2
    await limits.account(MARY, HERE).close_session("s0")
    await limits.close()


@pytest.mark.gen_test
async def test_a_redis_that_hangs_delays_one_request_a_little(redis_server: RedisServer) -> None:
    limits = limiter(redis_server, requests_per_minute=100)
    await limits.account(MARY, HERE).count_request()
    redis_server.signal(signal.SIGSTOP)
    start = time.monotonic()
    assert await requests_let_through(limits, 20) == 20
    assert time.monotonic() - start < 1.0
    redis_server.signal(signal.SIGCONT)
    await limits.close()


@pytest.mark.gen_test
async def test_redis_counts_again_when_it_is_back(redis_server: RedisServer, clock) -> None:
    limits = Limiter(
        LimitSettings(redis_url=redis_server.url, requests_per_minute=10, messages_per_second=0), clock=clock
    )
    redis_server.stop()
    assert await requests_let_through(limits, 10) == 5
    redis_server.start()
    assert await requests_let_through(limits, 1) == 0
    clock.advance(5.0)
    assert await requests_let_through(limits, 20) == 10
    await limits.close()


@pytest.mark.gen_test
async def test_counters_are_not_named_by_what_clients_send(redis_server: RedisServer) -> None:
    """A token's subject may hold anything."""
    limits = limiter(redis_server, requests_per_minute=5, sessions=5)
    account = limits.account(Caller(owner="token:a/b\n*", name="x", kind="token"), HERE)
    await account.count_request()
    await account.open_session("s1", 900)
    with Redis(unix_socket_path=str(redis_server.socket), decode_responses=True) as client:
        names = client.keys("*")
    assert len(names) == 2
    assert all(re.fullmatch(r"tornado-live:limits:[a-z_]+/owner/[0-9a-f]{32}", name) for name in names)
    await limits.close()


def test_an_address_that_is_no_redis_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="redis_url"):
        Limiter(LimitSettings(redis_url="http://somewhere"))
