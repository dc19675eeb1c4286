"""SIGTERM with many sessions: everybody is told, nothing that was committed is lost."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fault_runs.clients import Client
from fault_runs.gemini import emulator
from fault_runs.processes import ServerProcess
from tornado_live.store.sqlite import SqliteStore

SLOW_ANSWERS = {
    "pace": {"speed": 3},
    "script": {"replies": [{"text": "This answer takes a few seconds to say."}]},
}


@dataclass
class Drain:
    """What 200 clients saw of a server that was told to stop.

    Attributes:
        told: clients that read `server_going_away`.
        closed_1012: clients whose socket was closed with 1012.
        finished: answers under way at the signal that were complete before the close.
        lost_turns: turns that a client was told to be final and the store does not have.
    """

    clients: int
    told: int
    closed_1012: int
    under_way: int
    finished: int
    lost_turns: int
    exit_code: int
    seconds: float
    spread_s: float


async def terminate(clients: int = 200, *, speaking: int = 50) -> Drain:
    """SIGTERM to a server with so many clients, some of which are being answered."""
    gemini = emulator(SLOW_ANSWERS)
    gemini.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with ServerProcess(Path(folder), gemini.url, gemini.ca_file) as server:
                return await _terminate(server, clients, speaking)
    finally:
        gemini.stop()


async def _terminate(server: ServerProcess, count: int, speaking: int) -> Drain:
    clients = [Client(server.port, f"drained_{number}") for number in range(count)]
    for start in range(0, count, 20):
        await asyncio.gather(*(client.start() for client in clients[start : start + 20]))
    busy = clients[:speaking]
    await asyncio.gather(*(client.text("a question") for client in busy))
    await asyncio.gather(*(client.message("transcription_result") for client in busy))
    closed_at: list[float] = []
    waiting = [asyncio.create_task(_note_close(client, closed_at)) for client in clients]
    began = time.monotonic()
    server.terminate()
    exit_code = await server.wait()
    seconds = time.monotonic() - began
    await asyncio.wait_for(asyncio.gather(*waiting), 10.0)
    store = SqliteStore(server.store)
    await store.open()
    lost = 0
    for client in busy:
        record = await store.find_session("anonymous", client.label)
        turns = await store.turns(record.key) if record is not None else []
        kept = {(turn.turn_id, turn.text) for turn in turns if turn.role == "user"}
        lost += sum((final["turnId"], final["inputTranscription"]) not in kept for final in client.finals)
    await store.close()
    for client in clients:
        await client.drop()
    return Drain(
        clients=count,
        told=sum(bool(client.all_of("server_going_away")) for client in clients),
        closed_1012=sum(client.close_code == 1012 for client in clients),
        under_way=speaking,
        finished=sum(bool(client.all_of("turn_complete")) for client in busy),
        lost_turns=lost,
        exit_code=exit_code,
        seconds=seconds,
        spread_s=max(closed_at) - min(closed_at),
    )


async def _note_close(client: Client, closed_at: list[float]) -> None:
    await client.closed.wait()
    closed_at.append(time.monotonic())
