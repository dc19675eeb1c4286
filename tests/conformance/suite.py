"""Runs the WebSocket conformance suite against the server's own handler; exit code 1 if a case got worse.

    python tests/conformance/suite.py PATH_TO_KOSOKU

The handler answers every message with itself, through the same outbox, with the limits of
`production.yaml`. Left out are category 9 (messages of up to 16 MiB, which the server refuses) and 12
and 13 (compression, which it never negotiates).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tornado_live.access.buckets import MessageGate
from tornado_live.app import web_settings
from tornado_live.errors import LiveError
from tornado_live.handlers.live import LiveHandler
from tornado_live.sessions.outbox import Outbox
from tornado_live.settings import Settings, load_settings

PRODUCTION = Path(__file__).parents[2] / "config" / "production.yaml"
LEFT_OUT = ("9.*", "12.*", "13.*")
CASES = 247

KNOWN = {f"6.4.{case}": "NON-STRICT" for case in range(1, 5)} | {
    f"7.9.{case}": "FAILED" for case in range(1, 10)
}
"""What Tornado itself does otherwise than RFC 6455: bad UTF-8 is found at the end of a message (§8.1),
illegal close codes are echoed (§7.4)."""

RANK = {"OK": 0, "INFORMATIONAL": 0, "NON-STRICT": 1}
FAILED = 2
"""The rank of every other result."""


class EchoConnection:
    """In place of `LiveConnection`: says what it hears before it hears more, as the suite expects."""

    def __init__(
        self,
        write: Callable[[str | bytes], Awaitable[None]],
        close_with: Callable[[LiveError | None], None],
    ) -> None:
        self.receive = write
        self.leave = close_with
        self._gate = MessageGate([])

    def admit_ping(self) -> bool:
        return self._gate.admit_ping()

    def close(self) -> None:
        pass


class EchoHandler(LiveHandler):
    """Frames, limits, pings and close are the server's; nobody is asked who they are."""

    def initialize(self, settings: Settings) -> None:  # type: ignore[override]
        self.services = SimpleNamespace(settings=settings, sockets=set())  # type: ignore[assignment]

    async def prepare(self) -> None:
        pass

    async def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self.outbox = Outbox(self._write, self._close_with)
        self.connection = EchoConnection(self._write, self._close_with)  # type: ignore[assignment]


def listen() -> tuple[HTTPServer, int]:
    """The server and its port."""
    environ = {"GOOGLE_API_KEY": "none", "LIVE_API_KEY": "only-for-these-cases"}
    settings = load_settings(PRODUCTION, {}, environ, PRODUCTION.parent)
    server = HTTPServer(Application([("/", EchoHandler, {"settings": settings})], **web_settings(settings)))
    [listening] = bind_sockets(0, "127.0.0.1")
    server.add_socket(listening)
    return server, int(listening.getsockname()[1])


async def run_suite(kosoku: str, outdir: Path) -> dict[str, Any]:
    """The suite's index: for every case its `behavior` and `behaviorClose`."""
    server, port = listen()
    options = [option for pattern in LEFT_OUT for option in ("-x", pattern)]
    command = [kosoku, *options, "-p", "4", "-o", str(outdir), f"127.0.0.1:{port}"]
    suite = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    said, _ = await suite.communicate()
    server.stop()
    index = outdir / "index.json"
    if not index.exists():
        raise RuntimeError(f"the suite wrote no report: {said.decode(errors='replace')}")
    [cases] = json.loads(index.read_text(encoding="utf-8")).values()
    return dict(cases)


def worse(cases: Mapping[str, Any]) -> list[str]:
    """The cases that did worse than is known of Tornado."""
    return [
        f"{number}: {case['behavior']}, close {case['behaviorClose']}"
        for number, case in cases.items()
        if max(RANK.get(case[part], FAILED) for part in ("behavior", "behaviorClose"))
        > RANK.get(KNOWN.get(number, "OK"), FAILED)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kosoku", help="the suite's command")
    # What the cases provoke is reported once, by the suite.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        cases = asyncio.run(run_suite(parser.parse_args().kosoku, Path(scratch)))
    found = worse(cases)
    counts = Counter(case["behavior"] for case in cases.values())
    print(f"{len(cases)} cases: " + ", ".join(f"{count} {result}" for result, count in counts.most_common()))
    print(*found, sep="\n", end="\n" if found else "")
    if len(cases) != CASES:
        print(f"{CASES} cases were expected")
    return 1 if found or len(cases) != CASES else 0


if __name__ == "__main__":
    sys.exit(main())
