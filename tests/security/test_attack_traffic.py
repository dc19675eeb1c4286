"""Slow, fast, forged and malformed traffic: rows 8, 10, 21 and 22."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from callers import MARY
from flooding import MESSAGE, MESSAGE_FRAME, PING_FRAME, closed_with_4429, flooders
from raw import KeepAlive, answer_to, connected, masked, request, status_of, upgrade
from support import Socket

API = "/api/v1/live-audio"

# Row 8: connections that cost nothing to hold open.

_HEAD = f"POST {API}/session/end HTTP/1.1\r\nHost: a\r\nX-API-Key: {MARY}\r\n"
HALF_A_HEADER = f"{_HEAD}X-More: ".encode()
HALF_A_BODY = f"{_HEAD}Content-Length: 99\r\n\r\n{{".encode()
SLOW = {"nothing": b"", "half a header": HALF_A_HEADER, "half a body": HALF_A_BODY, "no key": upgrade()}
IMPATIENT = {
    "server": {"idle_connection_timeout": 1, "body_timeout": 1},
    "auth": {"timeout": 0.5},
}


async def is_cut_within(port: int, opening: bytes, seconds: float) -> bool:
    """While it goes on sending a byte now and then."""
    async with connected(port) as (reader, writer):
        writer.write(opening)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(0.2):
                    if not await reader.read(65536):
                        return True
            except TimeoutError:
                pass
            except ConnectionError:
                return True
            if opening not in (SLOW["nothing"], SLOW["no key"]):
                writer.write(b"x")
    return False


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.gen_test(timeout=20)
async def test_08_a_slow_connection_is_cut(make_protected: Any, kind: str) -> None:
    server = await make_protected(**IMPATIENT)
    # A socket is told why it is closed, and then has five seconds to agree.
    assert await is_cut_within(server.port, SLOW[kind], 8.0)


@pytest.mark.gen_test(timeout=20)
async def test_08_succeeds_unprotected(unprotected: Any) -> None:
    """A WebSocket without a key is open there for ever; the other three wait for an hour or longer."""
    cut = await asyncio.gather(*(is_cut_within(unprotected.port, opening, 1.5) for opening in SLOW.values()))
    assert not any(cut)


@pytest.mark.slow
@pytest.mark.gen_test(timeout=55)
async def test_08_a_thousand_slow_connections_hold_nobody_up(make_protected: Any) -> None:
    """How long a health check takes meanwhile is measured by `benchmarks/attacks.py`."""
    server = await make_protected(**IMPATIENT)
    streams = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", server.port) for _ in range(1000)))
    for number, (_, writer) in enumerate(streams):
        writer.write((HALF_A_HEADER, HALF_A_BODY)[number % 2])
    async with connected(server.port) as own:
        client = KeepAlive(*own)
        for _ in range(200):
            status, _ = await client.ask(request("GET", "/livez"))
            assert status == 200
    cut_by = time.monotonic() + 25
    for reader, writer in streams:
        try:
            async with asyncio.timeout(max(0.01, cut_by - time.monotonic())):
                while await reader.read(65536):
                    pass
        except ConnectionError:
            pass
        writer.close()


async def waiting_sockets(port: int) -> int:
    """WebSockets without a key, of 50, that stay open side by side."""
    async with AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connected(port)) for _ in range(50)]
        for _, writer in waiting:
            writer.write(upgrade())
        return sum(await asyncio.gather(*(is_left_open(reader) for reader, _ in waiting)))


async def is_left_open(reader: asyncio.StreamReader) -> bool:
    await reader.readuntil(b"\r\n\r\n")
    try:
        async with asyncio.timeout(1.0):
            await reader.readuntil(b"\x88")
    except TimeoutError:
        return True
    return False


@pytest.mark.gen_test
async def test_08_twenty_sockets_of_one_address_may_wait_for_a_key(protected: Any) -> None:
    assert await waiting_sockets(protected.port) == 20


@pytest.mark.gen_test(timeout=20)
async def test_08_waiting_succeeds_unprotected(unprotected: Any) -> None:
    assert await waiting_sockets(unprotected.port) == 50


# Row 9: readers that do not read.

READERS = 20
REPLY_S = 60
MEMORY_BYTES = READERS * (REPLY_S * 48_000 + 1_000_000 + 512 * 1024)
"""The reply as PCM, a session, and its outbox."""
LONG_REPLY = {
    "pace": {"speed": 100, "fast_turn_complete": True},
    "script": {"replies": [{"text": "word " * 214}]},
}
MODEL = """
import json, sys
from tornado_live import emulator as emulators
options = emulators.EmulatorOptions(ears="scripted", voice="tone", scenario=json.loads(sys.argv[1]))
emulator = emulators.EmulatorThread(options)
emulator.start()
print(json.dumps({"url": emulator.url, "ca_file": emulator.ca_file}), flush=True)
sys.stdin.read()
emulator.stop()
"""


@pytest.fixture
def model_elsewhere() -> Iterator[Any]:
    """An emulator in a process of its own, so that its memory is not taken for the server's."""
    command = [sys.executable, "-c", MODEL, json.dumps(LONG_REPLY)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield SimpleNamespace(**json.loads(process.stdout.readline()))
    process.communicate()


async def stall(reader: socket.socket, port: int) -> None:
    """A WebSocket that asks for speech and never reads it."""
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(reader, ("127.0.0.1", port))
    await loop.sock_sendall(reader, upgrade(X_API_Key=MARY))
    start = {"type": "start_session", "response_modality": "audio", "audio_delivery": "stream"}
    for message in (start, {"type": "text", "text": "Tell me a story."}):
        await loop.sock_sendall(reader, masked(message))


def connections(port: int) -> int:
    """Of this server, by the kernel's table (proc(5)); who does not read cannot see that it was closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "01" for fields in lines)


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def cost_of_stalled_readers(port: int, within_s: float) -> tuple[int, int]:
    """Connections that are open after that time, and the most memory that they took, in bytes."""
    before = most = rss_bytes()
    others = connections(port)
    deadline = time.monotonic() + within_s
    with ExitStack() as closing:
        for _ in range(READERS):
            await stall(closing.enter_context(socket.socket()), port)
        while connections(port) > others and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
            most = max(most, rss_bytes())
        return connections(port) - others, most - before


@pytest.mark.slow
@pytest.mark.gen_test(timeout=58)
async def test_09_who_does_not_read_costs_little_and_is_closed(
    make_server: Any, model_elsewhere: Any
) -> None:
    auth = {"mode": "keys", "keys": [{"name": "mary", "secret": MARY}]}
    server = await make_server(model_elsewhere, auth=auth, limits={"requests_per_minute": 0})
    warm = await Socket.open(server, X_API_Key=MARY)
    await warm.start(response_modality="audio")
    left, memory = await cost_of_stalled_readers(server.port, 45)
    warm.close()
    await warm.closed()
    assert left == 0
    assert memory <= MEMORY_BYTES


@pytest.mark.slow
@pytest.mark.gen_test(timeout=58)
async def test_09_succeeds_unprotected(unprotected: Any) -> None:
    left, memory = await cost_of_stalled_readers(unprotected.port, 5)
    assert left == READERS
    assert memory > MEMORY_BYTES


# Row 10: more than anybody can say.


async def closed_floods(port: int, frame: bytes, count: int, within_s: float, key: str = MARY) -> int:
    """How many of the flooders were told 4429 and closed; 0 unless all were closed in time."""
    async with flooders(port, frame, count, key) as process:
        try:
            async with asyncio.timeout(within_s):
                return await closed_with_4429(process)
        except TimeoutError:
            return 0


@pytest.mark.slow
@pytest.mark.gen_test(timeout=50)
async def test_10_twenty_flooders_disturb_nobody_and_are_closed(make_protected: Any) -> None:
    """How long the victim waits is measured by `benchmarks/attacks.py`, where nothing else runs."""
    server = await make_protected(limits={"messages_per_second": 60})
    victim = await Socket.open(server, X_API_Key=MARY)
    async with flooders(server.port, MESSAGE_FRAME, 20, MARY) as process:
        over = asyncio.create_task(closed_with_4429(process))
        answers = 0
        while not over.done():
            await victim.send({"type": "get_rate_limits"})
            await victim.message_of("rate_limit_status", timeout_s=5.0)
            answers += 1
            await asyncio.sleep(0.03)
        assert await over == 20
    victim.close()
    await victim.closed()
    assert answers >= 10


@pytest.mark.slow
@pytest.mark.gen_test(timeout=30)
async def test_10_a_flood_of_pings_is_closed(make_protected: Any) -> None:
    server = await make_protected(limits={"messages_per_second": 60})
    assert await closed_floods(server.port, PING_FRAME, 2, within_s=15) == 2


@pytest.mark.slow
@pytest.mark.gen_test(timeout=30)
async def test_10_a_flood_before_authentication_is_closed(make_protected: Any) -> None:
    server = await make_protected(auth={"failures_per_minute": 10_000})
    assert await closed_floods(server.port, MESSAGE_FRAME, 2, within_s=15, key="") == 2


@pytest.mark.slow
@pytest.mark.gen_test(timeout=30)
async def test_10_succeeds_unprotected(unprotected: Any) -> None:
    assert await closed_floods(unprotected.port, MESSAGE_FRAME, 2, within_s=6) == 0


# Row 21: addresses that clients make up.

FORGED_ADDRESSES: list[dict[str, str]] = [
    {"X_Forwarded_For": "203.0.113.1"},
    {"X_Forwarded_For": "203.0.113.2, 203.0.113.3"},
    {"X_Forwarded_For": "10.0.0.1, 127.0.0.1"},
    {"X_Forwarded_For": "2001:db8::1"},
    {"X_Forwarded_For": "::ffff:203.0.113.4"},
    {"X_Forwarded_For": "203.0.113.5:4711"},
    {"X_Forwarded_For": "unknown, 203.0.113.6"},
    {"x_forwarded_for": "203.0.113.7"},
    {"X_Real_IP": "203.0.113.8"},
    {"X_Real_Ip": "203.0.113.9", "X_Forwarded_For": "203.0.113.10"},
    {"Forwarded": "for=203.0.113.11;proto=https"},
    {"X_Client_IP": "203.0.113.12", "True_Client_IP": "203.0.113.12", "CF_Connecting_IP": "203.0.113.12"},
]


async def spoofs(port: int) -> int:
    """Requests that got past a limit of five an address by naming another address."""
    for _ in range(5):
        await answer_to(port, request("GET", f"{API}/sessions", X_API_Key=MARY))
    wires = [request("GET", f"{API}/sessions", X_API_Key=MARY, **headers) for headers in FORGED_ADDRESSES]
    return [status_of(await answer_to(port, wire)) for wire in wires].count(200)


@pytest.mark.gen_test
async def test_21_no_header_makes_another_address(make_protected: Any) -> None:
    server = await make_protected(limits={"per_address": {"requests_per_minute": 5}})
    assert len(FORGED_ADDRESSES) == 12
    assert await spoofs(server.port) == 0


@pytest.mark.gen_test
async def test_21_succeeds_unprotected(unprotected: Any) -> None:
    unprotected.limit_addresses = True
    assert await spoofs(unprotected.port) > 0


@pytest.mark.gen_test
async def test_21_behind_a_trusted_proxy_each_client_has_its_own_limit(make_protected: Any) -> None:
    limits = {"per_address": {"requests_per_minute": 1}}
    server = await make_protected(server={"trusted_proxies": ["127.0.0.0/8"]}, limits=limits)
    for address, status in (("203.0.113.1", 200), ("203.0.113.1", 429), ("203.0.113.2", 200)):
        wire = request("GET", f"{API}/sessions", X_API_Key=MARY, X_Forwarded_For=f"6.6.6.6, {address}")
        assert status_of(await answer_to(server.port, wire)) == status


# Row 22: one request for the proxy, two for the server.

HIDDEN = f"GET {API}/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
START = f"POST {API}/session/end HTTP/1.1\r\nHost: a\r\n"
SMUGGLED: dict[str, bytes] = {
    name: text.encode("latin-1")
    for name, text in {
        "CL and TE": f"{START}Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}",
        "TE and CL": f"{START}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}",
        "two lengths": f"{START}Content-Length: {len(HIDDEN)}\r\nContent-Length: 0\r\n\r\n{HIDDEN}",
        "a list of lengths": f"{START}Content-Length: 0, {len(HIDDEN)}\r\n\r\n{HIDDEN}",
        "a signed length": f"{START}Content-Length: +0\r\n\r\n{HIDDEN}",
        "an underscore in a length": f"{START}Content-Length: 0_0\r\n\r\n{HIDDEN}",
        "a hexadecimal length": f"{START}Content-Length: 0x0\r\n\r\n{HIDDEN}",
        "a negative length": f"{START}Content-Length: -1\r\n\r\n{HIDDEN}",
        "chunked with a parameter": f"{START}Transfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n{HIDDEN}",
        "a strange coding": f"{START}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}",
        "a space before the colon": f"{START}Content-Length : {len(HIDDEN)}\r\n\r\n{HIDDEN}",
        "a folded header": f"{START}X: y\r\n Content-Length: {len(HIDDEN)}\r\n\r\n{HIDDEN}",
        "a chunk of bad size": f"{START}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n{HIDDEN}",
        "a chunk that ends wrong": f"{START}Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n{HIDDEN}",
        "a null in a header": f"{START}Content-Length: 0\0\r\n\r\n{HIDDEN}",
    }.items()
}


async def answers_to(port: int, wire: bytes) -> int:
    """How many answers one connection gets."""
    received = bytearray()
    async with connected(port) as (reader, writer):
        writer.write(wire)
        try:
            async with asyncio.timeout(0.5):
                while data := await reader.read(65536):
                    received += data
        except (TimeoutError, ConnectionError):
            pass
    return len(re.findall(rb"HTTP/1\.1 \d{3} ", received))


async def smuggled(port: int) -> list[str]:
    """Those after which the hidden request was answered as well."""
    answers = await asyncio.gather(*(answers_to(port, wire) for wire in SMUGGLED.values()))
    return [name for name, count in zip(SMUGGLED, answers, strict=True) if count > 1]


@pytest.mark.gen_test(timeout=30)
async def test_22_no_request_hides_in_another(protected: Any) -> None:
    assert len(SMUGGLED) == 15
    assert await smuggled(protected.port) == []


class NaiveHttp(asyncio.Protocol):
    """Reads what it can of HTTP and believes the last length it finds."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            lengths = re.findall(rb"(?i)content-length\s*:\s*(\d+)", head)
            self._buffer = self._buffer[int(lengths[-1]) if lengths else 0 :]
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]


@pytest.mark.gen_test(timeout=30)
async def test_22_succeeds_unprotected() -> None:
    server = await asyncio.get_running_loop().create_server(NaiveHttp, "127.0.0.1", 0)
    try:
        assert await smuggled(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def test_the_flooders_message_is_one_that_the_server_answers() -> None:
    assert json.loads(MESSAGE) == {"type": "get_rate_limits"}
