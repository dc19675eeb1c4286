"""Runs the attacks that are measured rather than only refused, and prints what was seen, as a table.

    python benchmarks/attacks.py            in full, a minute
    python benchmarks/attacks.py --short    as in CI, half of it; times are shown, but not judged

The server is a process of its own, the attackers are another, the victim is this one. The exit code is 1
if a figure was not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("tests", "tests/security"))

from callers import JOHN, MARY
from fault_runs.gemini import emulator
from fault_runs.processes import ServerProcess
from flooding import MESSAGE_FRAME, closed_with_4429, flooders
from raw import KeepAlive, connected, masked, request, upgrade
from support import Socket
from takeovers import LABEL, sessions_taken, takeover

CONNECTIONS = 1000
FLOODERS = 20
HEAD = f"POST /api/v1/live-audio/session/end HTTP/1.1\r\nHost: a\r\nX-API-Key: {MARY}\r\n"
OPENINGS = (f"{HEAD}X-More: ".encode(), f"{HEAD}Content-Length: 9999\r\n\r\n{{".encode())


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        cut_after_s: the server's patience with headers and bodies.
    """

    cut_after_s: int
    floods: int
    takeovers: int
    pairs: int


SHORT = Size(cut_after_s=6, floods=1, takeovers=2_000, pairs=150)
FULL = Size(cut_after_s=20, floods=5, takeovers=10_000, pairs=1_000)


class Report:
    """The table.

    Attributes:
        met: every figure that is judged was reached.
    """

    def __init__(self, *, judge_times: bool) -> None:
        self.met = True
        self._judge_times = judge_times
        print("| attack | held to | seen | met |\n|---|---|---|---|", flush=True)

    def add_time(self, attack: str, target: str, seen: str, *, met: bool) -> None:
        """A time, in which everything else shows that the machine does."""
        before = self.met
        self.add(attack, target, seen, met=met)
        if not self._judge_times:
            self.met = before

    def add(self, attack: str, target: str, seen: str, *, met: bool) -> None:
        self.met = self.met and met
        print(f"| {attack} | {target} | {seen} | {'yes' if met else 'NO'} |", flush=True)


async def timed(samples_ms: list[float], work: Awaitable[object]) -> None:
    began = time.perf_counter()
    await work
    samples_ms.append((time.perf_counter() - began) * 1000)


def p99(samples: list[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99)]


# Slow connections


async def _one_slow(port: int, number: int) -> float:
    """Seconds until the server cut it; it sends a byte a second all the while."""
    async with connected(port) as (reader, writer):
        began = time.monotonic()
        writer.write(OPENINGS[number % 2])
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        if not await reader.read(65536):
                            break
                except TimeoutError:
                    writer.write(b"x")
        return time.monotonic() - began


def _slow_clients(port: int, pipe: Connection) -> None:
    """In a process of its own; sends how long each was let live, in seconds."""

    async def main() -> list[float]:
        return await asyncio.gather(*(_one_slow(port, number) for number in range(CONNECTIONS)))

    pipe.send(asyncio.run(main()))


async def slowloris(server: ServerProcess, size: Size, report: Report) -> None:
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    attackers = spawn.Process(target=_slow_clients, args=(server.port, sender))
    took_ms: list[float] = []
    async with connected(server.port) as streams:
        client = KeepAlive(*streams)
        attackers.start()
        while not receiver.poll():
            await timed(took_ms, client.ask(request("GET", "/livez")))
            await asyncio.sleep(0.01)
    lived_s = receiver.recv()
    attackers.join()
    report.add_time(
        f"{CONNECTIONS:,} slow connections, a byte a second each",
        "health p99 ≤ 100 ms",
        f"p99 {p99(took_ms):.1f} ms of {len(took_ms):,}",
        met=p99(took_ms) <= 100,
    )
    report.add_time(
        f"… of a server that waits {size.cut_after_s} s",
        f"all cut within {size.cut_after_s + 5} s",
        f"the last after {max(lived_s):.1f} s",
        met=max(lived_s) <= size.cut_after_s + 5,
    )


# Floods


async def floods(server: ServerProcess, size: Size, report: Report) -> None:
    took_ms: list[float] = []
    closed = 0
    victim = await Socket.open(server, X_API_Key=MARY)  # type: ignore[arg-type]

    async def ask() -> None:
        await victim.send({"type": "get_rate_limits"})
        await victim.message_of("rate_limit_status")

    for _ in range(size.floods):
        async with flooders(server.port, MESSAGE_FRAME, FLOODERS, JOHN) as process:
            over = asyncio.create_task(closed_with_4429(process))
            while not over.done():
                await timed(took_ms, ask())
                await asyncio.sleep(0.03)
            closed += await over
    victim.close()
    await victim.closed()
    report.add_time(
        f"{FLOODERS} flooders, {size.floods} times",
        "a victim's p99 ≤ 50 ms",
        f"p99 {p99(took_ms):.1f} ms of {len(took_ms):,}",
        met=p99(took_ms) <= 50,
    )
    told = FLOODERS * size.floods
    report.add("… told and closed with 4429", f"{told} of {told}", f"{closed}", met=closed == told)


# Takeovers


async def resumed(server: ServerProcess, key: str) -> bool:
    """Whether a socket got into the session with a guessed token."""
    async with connected(server.port) as (reader, writer):
        writer.write(upgrade(X_API_Key=key))
        await reader.readuntil(b"\r\n\r\n")
        guess = secrets.token_urlsafe(4)
        writer.write(masked({"type": "resume", "session_id": LABEL, "resume_token": guess}))
        return b'"resume_refused"' not in await asyncio.wait_for(reader.read(4096), 10)


async def takeovers(server: ServerProcess, size: Size, report: Report) -> None:
    by_socket = size.takeovers // 10
    taken = await sessions_taken(server.port, size.takeovers - by_socket, MARY, JOHN)
    for number in range(by_socket):
        taken += await resumed(server, (MARY, JOHN)[number % 2])
    report.add(
        f"{size.takeovers:,} takeovers of a known id, {by_socket:,} of them with a guessed resume token",
        "0",
        str(taken),
        met=taken == 0,
    )


async def answer_times(server: ServerProcess, size: Size, report: Report) -> None:
    """Whether the time of an answer tells a foreign session from none."""
    worst = 1.0
    async with connected(server.port) as streams:
        client = KeepAlive(*streams)
        foreign = takeover(LABEL, JOHN)
        for pair in zip(foreign, takeover(LABEL[:-1] + "0", JOHN), strict=True):
            took_ms: tuple[list[float], list[float]] = ([], [])
            for number in range(size.pairs * 2):
                await timed(took_ms[number % 2], client.ask(pair[number % 2]))
            ratio = median(took_ms[0]) / median(took_ms[1])
            worst = max(worst, ratio, 1 / ratio)
    report.add_time(
        f"median time of a foreign session's answer to that of none, {size.pairs:,} pairs of 4 kinds",
        "≤ 1.25",
        f"{worst:.2f}",
        met=worst <= 1.25,
    )


Run = Callable[[ServerProcess, Size, Report], Awaitable[None]]
RUNS: dict[str, Run] = {
    "slowloris": slowloris,
    "floods": floods,
    "takeovers": takeovers,
    "times": answer_times,
}


async def run(names: list[str], size: Size, folder: Path, report: Report) -> None:
    model = emulator()
    model.start()
    settings = {
        "auth": {
            "mode": "keys",
            "keys": [{"name": "mary", "secret": MARY}, {"name": "john", "secret": JOHN}],
        },
        "server": {
            "host": "127.0.0.1",
            "idle_connection_timeout": size.cut_after_s,
            "body_timeout": size.cut_after_s,
        },
    }
    try:
        async with ServerProcess(folder, model.url, model.ca_file, **settings) as server:
            for name in names:
                await RUNS[name](server, size, report)
    finally:
        model.stop()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="less of everything, for CI")
    arguments.add_argument("--only", nargs="*", choices=list(RUNS), help="only these")
    chosen = arguments.parse_args()
    logging.disable(logging.ERROR)
    report = Report(judge_times=not chosen.short)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(chosen.only or list(RUNS), SHORT if chosen.short else FULL, Path(folder), report))
    print(f"\n{time.monotonic() - began:.0f} s.")
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
