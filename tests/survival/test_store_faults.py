"""A store that fails under a live conversation: the conversation goes on, and readiness says so."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fault_runs.clients import Client
from fault_runs.clients import call as call_process
from fault_runs.gemini import emulator
from fault_runs.processes import ServerProcess
from fault_runs.processes import until as until_process
from support import api, call, until


async def ready(server: object) -> bool:
    return (await call(server, "/readyz")).code == 200  # type: ignore[arg-type]


@pytest.mark.gen_test
async def test_a_locked_store_holds_nobody_up(
    make_server: Callable[..., Awaitable[object]], scripted_ears, connect, tmp_path: Path
) -> None:
    path = tmp_path / "store.sqlite3"
    server = await make_server(scripted_ears, str(path))
    socket = await connect(server)
    await socket.start(session_id="locked_out")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        took = []
        for number in range(3):
            began = time.monotonic()
            await socket.send({"type": "text", "text": f"sentence {number}"})
            await socket.message_of("turn_complete")
            took.append(time.monotonic() - began)
        assert max(took) < 1.5
        assert not await ready(server)
        _, transcript = await api(server, "/session/locked_out/transcript")
        assert len(transcript["data"]["turns"]) == 6
        locker.execute("ROLLBACK")
        await until(lambda: not server.services.registry.store_failing)
        assert await ready(server)
        kept = locker.execute("SELECT text FROM turns WHERE role = 'user' ORDER BY start_ms").fetchall()
    assert [row[0] for row in kept] == ["sentence 0", "sentence 1", "sentence 2"]


@pytest.mark.slow
def test_a_full_disk_ends_no_conversation_and_spoils_no_file(tmp_path: Path) -> None:
    asyncio.run(_full_disk(tmp_path))


async def _full_disk(folder: Path) -> None:
    gemini = emulator()
    gemini.start()
    try:
        async with ServerProcess(
            folder, gemini.url, gemini.ca_file, file_limit_bytes=200_000, logging={"level": "error"}
        ) as server:
            client = Client(server.port, "full")
            await client.start()
            answered = 0

            async def says_not_ready() -> bool:
                nonlocal answered
                answered += 1
                await client.text("x" * 3000)
                await client.exchanges(answered)
                status, _ = await call_process(server.port, "//readyz")
                return status == 503

            await until_process(says_not_ready, 60.0)
            await client.text("still talking")
            await client.exchanges(answered + 1)
            await client.drop()
        with contextlib.closing(sqlite3.connect(server.store)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert store.execute("SELECT count(*) FROM turns").fetchone()[0] > 0
    finally:
        gemini.stop()
