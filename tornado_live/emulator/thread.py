"""The emulator beside a program that has an event loop of its own, or none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

from tornado_live.emulator.journal import Journal
from tornado_live.emulator.options import EmulatorOptions
from tornado_live.emulator.server import Emulator


class EmulatorThread:
    """An `Emulator` on a thread and a loop of its own; same attributes, blocking calls."""

    def __init__(self, options: EmulatorOptions) -> None:
        self._emulator = Emulator(options)
        self.engine = self._emulator.engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return self._emulator.url

    @property
    def ca_file(self) -> str:
        return self._emulator.ca_file

    @property
    def journal(self) -> Journal:
        return self._emulator.journal

    def start(self) -> None:
        """Blocks until it is listening. Raises what `Emulator.start` raises."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="emulator", daemon=True
        )
        self._thread.start()
        started.result()

    def wait_ready(self) -> None:
        """Blocks until it can recognise and speak. Raises what loading raised."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._emulator.ready(), self._loop).result()

    def stop(self) -> None:
        """Blocks until nothing is left of it; harmless if it never started or was stopped before."""
        if self._thread is not None and self._thread.is_alive():
            assert self._loop is not None
            assert self._stopping is not None
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    async def _run(self, started: concurrent.futures.Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            await self._emulator.start()
        except BaseException as error:
            # Whatever it is, it belongs to the thread that waits.
            started.set_exception(error)
            return
        started.set_result(None)
        await self._stopping.wait()
        await self._emulator.stop()
