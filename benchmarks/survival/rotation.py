"""Rotation: the model's connections are cut again and again while somebody speaks."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from survival.clients import Client, ledger, said
from survival.gemini import emulator, short_answers
from survival.processes import ServerProcess
from tornado_live.emulator import EmulatorThread, numbered

UTTERANCES = (2, 3, 7)
"""Words of each, in turn: the longest outlasts a goAway, the others leave quiet moments."""


@dataclass
class Heard:
    """What became of numbered speech.

    Attributes:
        spoken: the numbers that were said.
        in_ledger: the numbers in the ledger, in order.
        recognised: the numbers that the emulator's ears read, by its journal.
        damaged: words that reached them cut.
        unacknowledged: chunks that the server never said to have passed on.
    """

    spoken: list[int]
    in_ledger: list[int]
    recognised: list[int]
    damaged: int
    unacknowledged: int
    go_aways: int
    rotations: list[int]
    dial_ms: float
    resumed: list[bool] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return self.in_ledger == self.spoken and not self.unacknowledged

    @property
    def lost(self) -> list[int]:
        return sorted(set(self.spoken) - set(self.in_ledger))

    @property
    def doubled(self) -> list[int]:
        return sorted({number for number in self.in_ledger if self.in_ledger.count(number) > 1})


async def talk_through_go_aways(
    go_aways: int = 12, *, lifetime_s: float = 6.0, go_away_s: float = 5.0
) -> Heard:
    """Speaks until the model has said goAway so often."""
    scenario = short_answers(model={"lifetime_s": lifetime_s, "go_away_s": go_away_s})
    gemini = emulator(scenario)
    gemini.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with ServerProcess(Path(folder), gemini.url, gemini.ca_file) as server:
                return await _talk(gemini, server, lambda: _go_aways(gemini) >= go_aways)
    finally:
        gemini.stop()


async def talk_for(seconds: float, *, model: str, time_scale: float = 1.0) -> Heard:
    """Speaks for so long; the model's connections live as long as they really do, over `time_scale`."""
    gemini = emulator(short_answers(), time_scale=time_scale)
    gemini.start()
    until = time.monotonic() + seconds
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with ServerProcess(Path(folder), gemini.url, gemini.ca_file) as server:
                return await _talk(gemini, server, lambda: time.monotonic() >= until, model=model)
    finally:
        gemini.stop()


async def _talk(
    gemini: EmulatorThread, server: ServerProcess, enough: Callable[[], bool], model: str | None = None
) -> Heard:
    began = time.monotonic()
    client = Client(server.port, "talker", model=model)
    dialled = time.monotonic()
    await client.start()
    dial_ms = (time.monotonic() - dialled) * 1000
    spoken = turn = 0
    while not enough():
        count = UTTERANCES[turn % len(UTTERANCES)]
        await client.say_numbers(spoken, count)
        spoken, turn = spoken + count, turn + 1
    await client.speak(bytes(16000 * 2 * 2))
    await _answered(server, client, spoken)
    turns = await ledger(server.port, client.label)
    rotations = [message["data"] for message in client.all_of("upstream_rotated")]
    await client.drop()
    words = [word for note in gemini.journal.select("recognised") for word, _ in note["words"]]
    return Heard(
        spoken=list(range(spoken)),
        in_ledger=said(turns),
        recognised=numbered.numbers(" ".join(words)),
        damaged=words.count("damaged"),
        unacknowledged=len(client.unacknowledged),
        go_aways=_go_aways(gemini),
        rotations=[rotation["gapMs"] for rotation in rotations],
        resumed=[rotation["resumed"] for rotation in rotations],
        dial_ms=dial_ms,
        seconds=time.monotonic() - began,
    )


async def _answered(server: ServerProcess, client: Client, count: int) -> None:
    """Waits until the last word is in the ledger, or will not come any more."""
    deadline = time.monotonic() + 12.0
    while time.monotonic() < deadline:
        if len(said(await ledger(server.port, client.label))) >= count:
            return
        await asyncio.sleep(0.2)


def _go_aways(gemini: EmulatorThread) -> int:
    return len(gemini.journal.select("goAway.timeLeft"))
