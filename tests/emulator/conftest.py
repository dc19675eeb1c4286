"""Emulators in the test's own loop, quick by default: scripted ears, tones, no waiting for playback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from raw_client import StartEmulator
from tornado.ioloop import IOLoop

from tornado_live.emulator import Emulator, EmulatorOptions

QUICK = {"pace": {"speed": 100, "fast_turn_complete": True}}


@pytest.fixture
def start_emulator(io_loop: IOLoop) -> Iterator[StartEmulator]:
    """Starts emulators that are stopped after the test; sections of the scenario are keyword arguments."""
    emulators: list[Emulator] = []

    async def start(options: dict[str, Any] | None = None, **scenario: Any) -> Emulator:
        given = {"ears": "scripted", "voice": "tone", "scenario": {**QUICK, **scenario}, **(options or {})}
        emulator = Emulator(EmulatorOptions(**given))
        emulators.append(emulator)
        await emulator.start()
        return emulator

    yield start
    for emulator in emulators:
        io_loop.run_sync(emulator.stop, timeout=10)


@pytest.fixture
def emulator(start_emulator: StartEmulator, io_loop: IOLoop) -> Emulator:
    return io_loop.run_sync(start_emulator, timeout=10)
