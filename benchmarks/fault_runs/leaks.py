"""A thousand sessions, one after the other: nothing may be left of them."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import resource
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fault_runs.clients import Client
from fault_runs.gemini import emulator, short_answers
from fault_runs.processes import until
from tornado_live.app import LiveServer
from tornado_live.settings import Settings

FLAT_MIB = 10.0
"""What the allocator may keep: it gives memory back in large pieces only."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    tasks: int
    files: int
    threads: int
    rss_mib: float


@dataclass
class Leak:
    """What a server held after its first sessions and after its last."""

    sessions: int
    before: Held
    after: Held
    upstream_left: int


async def start_and_end(
    sessions: int = 1000, *, at_once: int = 10, warm_up: int = 100, settle_s: float = 2.5
) -> Leak:
    """Sessions with an exchange each; every third client just goes away.

    Args:
        settle_s: what is left is counted so long afterwards: sockets close, records are deleted after a
            second, last words are kept for a minute.
    """
    receiving, sending = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_run_emulator, args=(sending,), daemon=True)
    child.start()
    try:
        url, ca_file = await asyncio.to_thread(receiving.recv)
        server = LiveServer(_settings(url, ca_file))
        await server.start()
        await server.ready()
        await _live(server, warm_up, at_once)
        # The executor starts its threads one by one, as they are needed.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(64)))
        before = await _held(settle_s)
        await _live(server, sessions, at_once)
        after = await _held(settle_s)
        left = len(server.services.registry.live)
        await server.stop()
    finally:
        receiving.send(None)
        await asyncio.to_thread(child.join)
    return Leak(sessions, before, after, left)


def _run_emulator(told: Connection) -> None:
    gemini = emulator(short_answers())
    gemini.start()
    told.send((gemini.url, gemini.ca_file))
    told.recv()
    gemini.stop()


def _settings(url: str, ca_file: str) -> Settings:
    return Settings.model_validate(
        {
            "server": {"host": "127.0.0.1", "port": 0, "websocket_port": None},
            "store": {"path": ":memory:"},
            "sessions": {"resume_grace": 0.2, "cleanup_interval": 0.1, "keep_records": 1.0},
            "limits": {"requests_per_minute": 0},
            "gemini": {"api_key": "dummy", "base_url": url, "ca_file": ca_file},
            "emulator": {"mode": "never"},
        }
    )


async def _live(server: LiveServer, sessions: int, at_once: int) -> None:
    limit = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with limit:
            client = Client(server.port, f"leak_{os.urandom(6).hex()}", response_modality="audio")
            await client.start()
            await client.text("hello")
            await client.exchanges(1)
            if number % 3:
                await client.send({"type": "end_session"})
                await client.message("session_ended")
            await client.drop()

    await asyncio.gather(*(one(number) for number in range(sessions)))
    await until(lambda: not server.services.registry.live, 30.0)


async def _held(settle_s: float) -> Held:
    await asyncio.sleep(settle_s)
    gc.collect()
    return Held(
        tasks=len(asyncio.all_tasks()),
        files=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        rss_mib=_rss_mib(),
    )


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20
