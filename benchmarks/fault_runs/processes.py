"""A server as a process of its own, to be killed, stopped, paused and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Self

START_TIMEOUT_S = 30.0
_ANNOUNCED = re.compile(r"tornado-live is at \S+:(\d+)/")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """`tornado-live serve` with its Gemini at `gemini_url`; keeps port and store over restarts.

    Args:
        folder: for its settings, store and log.
        sections: settings by section, over those that make it a server on loopback.
        file_limit_bytes: no file that it writes grows beyond this: a full disk.
    """

    def __init__(
        self,
        folder: Path,
        gemini_url: str,
        ca_file: str,
        *,
        file_limit_bytes: int | None = None,
        **sections: dict[str, Any],
    ) -> None:
        self.port = free_port()
        self.store = folder / "store.sqlite3"
        self._log = folder / "server.log"
        self._file_limit_bytes = file_limit_bytes
        settings: dict[str, dict[str, Any]] = {
            "server": {"host": "127.0.0.1", "port": self.port, "websocket_port": None},
            "store": {"path": str(self.store)},
            "gemini": {"base_url": gemini_url, "ca_file": ca_file},
            "emulator": {"mode": "never"},
            "sessions": {"max": 2000, "per_owner": 2000},
            "limits": {"requests_per_minute": 0},
            "logging": {"format": "json"},
        }
        for section, values in sections.items():
            settings[section] = settings.get(section, {}) | values
        self._settings = folder / "settings.yaml"
        self._settings.write_text(json.dumps(settings), encoding="utf-8")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            self.kill()
        await self.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def start(self) -> None:
        """Returns when it listens."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                str(self._file_limit_bytes or 0),
                str(self._settings),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "GOOGLE_API_KEY": "dummy"},
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            while not _ANNOUNCED.search(line := (await self._process.stdout.readline()).decode()):
                assert line, f"the server did not start:\n{self.log[-2000:]}"

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Has it read its files again."""
        self._signal(signal.SIGHUP)

    @contextlib.asynccontextmanager
    async def paused(self) -> Any:
        """As if its machine stood still."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    async def wait(self) -> int:
        """The exit code."""
        assert self._process is not None
        output, _ = await self._process.communicate()
        del output
        assert self._process.returncode is not None
        return self._process.returncode

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def rss_bytes(self) -> int:
        return int(self._status("VmRSS")) * 1024

    @property
    def threads(self) -> int:
        return int(self._status("Threads"))

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _status(self, name: str) -> str:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        assert found is not None
        return found[1]


_PROGRAM = """
import resource, sys
limit, settings = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
sys.argv = ["tornado-live", "serve", "--config", settings]
from tornado_live.cli import main
main()
"""


async def until(condition: Any, timeout_s: float, *, every_s: float = 0.02) -> float:
    """Waits until `condition()`, which may be awaitable, is true; returns the seconds it took.

    Raises:
        TimeoutError
    """
    began = time.monotonic()
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise TimeoutError("the condition did not come true in time")
        await asyncio.sleep(every_s)
