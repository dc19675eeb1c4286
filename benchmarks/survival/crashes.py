"""SIGKILL at random moments: what was committed is there, and everybody comes back."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from survival.clients import Client, ledger
from survival.gemini import emulator, short_answers
from survival.processes import ServerProcess


@dataclass
class Comeback:
    """One session after one kill.

    Attributes:
        attached_s: from the kill until it was attached again; infinite if it never was.
        intact: every turn that the client was told to be final stands in the ledger, word for word.
        by_handle: the model went on with the conversation itself, not with what it was told of it.
        goes_on: a new exchange was answered.
    """

    attached_s: float
    intact: bool
    goes_on: bool
    trouble: str = ""


async def kill_servers(kills: int = 20, *, sessions: int = 5, seed: int = 2) -> list[list[Comeback]]:
    """Kills a server so often, while so many clients talk to it, and starts it again."""
    rng = random.Random(seed)
    gemini = emulator(short_answers())
    gemini.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with ServerProcess(Path(folder), gemini.url, gemini.ca_file) as server:
                return [
                    await _kill(server, number, sessions, after_s=rng.uniform(0.05, 3.0))
                    for number in range(kills)
                ]
    finally:
        gemini.stop()


async def _kill(server: ServerProcess, number: int, sessions: int, after_s: float) -> list[Comeback]:
    clients = [Client(server.port, f"killed_{number}_{each}") for each in range(sessions)]
    await asyncio.gather(*(client.start() for client in clients))
    told: list[list[dict[str, Any]]] = [[] for _ in clients]
    talking = [
        asyncio.create_task(_talk(client, finals)) for client, finals in zip(clients, told, strict=True)
    ]
    await asyncio.sleep(after_s)
    server.kill()
    killed_at = time.monotonic()
    await server.wait()
    for task in talking:
        task.cancel()
    await asyncio.gather(*talking, return_exceptions=True)
    for client, finals in zip(clients, told, strict=True):
        finals += [final for final in client.finals if final not in finals]
    restarting = asyncio.create_task(server.start())
    comebacks = await asyncio.gather(
        *(_come_back(server, client, finals, killed_at) for client, finals in zip(clients, told, strict=True))
    )
    await restarting
    return list(comebacks)


async def _talk(client: Client, finals: list[dict[str, Any]]) -> None:
    number = 0
    while True:
        await client.text(f"this is sentence {number}")
        number += 1
        await client.exchanges(number)
        finals[:] = client.finals


async def _come_back(
    server: ServerProcess, client: Client, finals: list[dict[str, Any]], killed_at: float
) -> Comeback:
    epoch = client.epoch
    try:
        answer = await client.come_back(within_s=20.0)
    except Exception as error:
        return Comeback(float("inf"), False, False, repr(error))
    attached_s = time.monotonic() - killed_at
    turns = await ledger(server.port, client.label)
    kept = {(turn["turnId"], turn["role"]): turn["text"] for turn in turns}
    missing = [
        final["turnId"]
        for final in finals
        if kept.get((final["turnId"], "user")) != final["inputTranscription"]
        or kept.get((final["turnId"], "model")) != final["transcript"]
    ]
    await client.text("are you there?")
    await client.exchanges(1)
    trouble = f"missing {missing}" if missing else ""
    if answer["data"]["epoch"] != epoch + 1:
        trouble += f" epoch {answer['data']['epoch']}"
    if client.out_of_order:
        trouble += f" out of order {client.out_of_order}"
    await client.drop()
    return Comeback(attached_s, not missing, not trouble, trouble)
