"""Lost networks: the client's connection is cut in the middle of a byte stream, and it comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from survival.clients import Client, observed
from survival.gemini import emulator
from survival.network import FaultProxy
from survival.processes import ServerProcess

TALKATIVE: dict[str, Any] = {
    "pace": {"speed": 3},
    "script": {"replies": [{"when": "tell", "text": " ".join(["word"] * 60)}, {"text": "Yes."}]},
}
"""Asked to tell, it speaks for some twenty seconds."""
SPOKEN_S = 3.2


@dataclass
class Return:
    """One cut and what followed.

    Attributes:
        where: bytes after which it was cut, and in which direction.
        resume_ms: from the first try to dial until the session was attached again.
        exact: every event, and every sample, is what an observer saw that was never cut.
        taken: every sample that was spoken has been taken in, once.
    """

    where: str
    away_s: float
    resume_ms: float
    exact: bool
    taken: bool
    trouble: str = ""


async def cut_clients(
    cuts: int = 50, *, at_once: int = 10, longest_away_s: float = 10.0, seed: int = 1
) -> list[Return]:
    """Cuts so many clients, each once while audio goes both ways, at a random byte, for a random time."""
    rng = random.Random(seed)
    gemini = emulator(TALKATIVE)
    gemini.start()
    limit = asyncio.Semaphore(at_once)
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with ServerProcess(Path(folder), gemini.url, gemini.ca_file) as server:

                async def one(number: int) -> Return:
                    down = number % 3 != 2
                    offset = rng.randrange(1, 200_000) if down else rng.randrange(1, 60_000)
                    async with limit:
                        return await _cut(
                            server, f"cut_{number}", offset, down=down, away_s=rng.uniform(0, longest_away_s)
                        )

                return await asyncio.gather(*(one(number) for number in range(cuts)))
    finally:
        gemini.stop()


async def _cut(server: ServerProcess, label: str, offset: int, *, down: bool, away_s: float) -> Return:
    seen: dict[int, list[dict[str, Any]]] = {}
    async with FaultProxy(server.port) as network:
        client = Client(network.port, label, response_modality="audio", audio_delivery="stream")
        await client.start()
        watching = asyncio.create_task(_watch(server.port, label, seen))
        await client.text("tell me")
        talking = asyncio.create_task(_talk(client))
        network.cut_after(**{"down" if down else "up": offset})
        where = f"{offset} bytes {'down' if down else 'up'}"
        try:
            async with asyncio.timeout(25.0):
                await network.cut.wait()
            await asyncio.sleep(away_s)
            network.restore()
            began = time.monotonic()
            await client.come_back()
            resume_ms = (time.monotonic() - began) * 1000
            await talking
            exchanges = len({event["data"]["turnId"] for event in _finals(seen)})
            await client.text("Finally.")
            await _until_told(seen, exchanges + 1)
            await client.send({"type": "get_status"})
            status = await client.message("session_status")
            await client.send({"type": "end_session"})
            await client.message("session_ended")
            await watching
        except (TimeoutError, OSError) as error:
            return Return(where, away_s, float("inf"), False, False, repr(error))
        finally:
            talking.cancel()
            await client.drop()
            watching.cancel()
            await asyncio.gather(talking, watching, return_exceptions=True)
    trouble = _differences(client, seen)
    taken = not client.unacknowledged and abs(status["data"]["audio"]["seconds"] - SPOKEN_S) < 1e-3
    return Return(where, away_s, resume_ms, not trouble, taken, trouble)


async def _talk(client: Client) -> None:
    """Two words, spoken over whatever happens to the network."""
    await asyncio.sleep(8.0)
    await client.say_numbers(0, 2, pause_s=SPOKEN_S - 2.0)


async def _until_told(seen: dict[int, list[dict[str, Any]]], exchanges: int) -> None:
    deadline = time.monotonic() + 40.0
    while len({event["data"]["turnId"] for event in _finals(seen)}) < exchanges:
        if time.monotonic() > deadline:
            raise TimeoutError("the last answer did not come")
        await asyncio.sleep(0.1)


def _finals(seen: dict[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        event
        for events in seen.values()
        for event in events
        if event["type"] == "transcription_result" and event["data"]["final"]
    ]


async def _watch(port: int, label: str, seen: dict[int, list[dict[str, Any]]]) -> None:
    async for event in observed(port, label):
        if "seq" in event:
            seen.setdefault(event["seq"], []).append(event)


def _differences(client: Client, seen: dict[int, list[dict[str, Any]]]) -> str:
    """What the client has otherwise than the observer; empty if nothing."""
    if client.gaps:
        return f"gaps {client.gaps}"
    if client.out_of_order:
        return f"out of order {client.out_of_order[:3]}"
    interrupted = {
        e["data"]["turnId"] for events in seen.values() for e in events if e["type"] == "interrupted"
    }
    last = min(client.last_seq, max(seen))
    for seq in range(1, last + 1):
        mine, theirs = client.frames.get(seq), seen.get(seq, [])
        # Audio that still waits when its reply is interrupted is dropped, and its number with it; it may
        # wait for one reader and not for the other.
        if not theirs and (mine is None or isinstance(mine, bytes)):
            continue
        if len(theirs) != 1:
            return f"event {seq} was observed {len(theirs)} times"
        if mine is None:
            if theirs[0]["type"] == "audio_output" and theirs[0]["data"]["turnId"] in interrupted:
                continue
            return f"event {seq} is missing: {theirs[0]['type']}"
        if not _same(mine, theirs[0]):
            return f"event {seq} differs: {theirs[0]['type']}"
    return "" if len(seen) > last / 2 else "hardly anything was observed"


def _same(mine: str | bytes, theirs: dict[str, Any]) -> bool:
    if isinstance(mine, bytes):
        return theirs["type"] == "audio_output" and base64.b64decode(theirs["data"]["data"]) == mine
    own = json.loads(mine)
    # `timestamp` is when the message was written.
    own["data"].pop("timestamp", None)
    expected = theirs["data"].copy()
    expected.pop("timestamp", None)
    return bool(own["type"] == theirs["type"] and own["data"] == expected)
