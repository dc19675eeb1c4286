"""The emulator as a process of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from tornado_live.emulator.options import EmulatorOptions
from tornado_live.emulator.server import Emulator


def run(options: EmulatorOptions, on_ready: Callable[[Emulator], None]) -> None:
    """Runs until SIGINT or SIGTERM.

    Args:
        on_ready: called when it listens and can recognise and speak.

    Raises:
        ScenarioError, ValueError: the options cannot be used.
        OSError: the port is taken, or the journal cannot be written.
    """
    asyncio.run(_serve(options, on_ready))


async def _serve(options: EmulatorOptions, on_ready: Callable[[Emulator], None]) -> None:
    emulator = Emulator(options)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await emulator.start()
    try:
        await emulator.ready()
        on_ready(emulator)
        await stopping.wait()
    finally:
        await emulator.stop()
