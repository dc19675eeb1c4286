"""The way out of one connection: server messages become frames, in order, as late and as odd as the
scenario says."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from tornado_live.emulator import protocol
from tornado_live.emulator.journal import Journal
from tornado_live.emulator.protocol import ServerMessage
from tornado_live.emulator.scenarios import CloseAt, Connection, Moment, Scenario


class Socket(Protocol):
    """A WebSocket, as far as the emulator needs one."""

    async def send_frame(self, frame: bytes, *, binary: bool) -> None:
        """Returns when the frame has been taken by the transport; a closed socket takes all and loses it."""

    def close(self, code: int, reason: str) -> None: ...

    def abort(self) -> None:
        """Cuts the connection without a close frame."""

    def freeze(self) -> None:
        """Reads nothing and writes nothing any more, as if the cable were cut."""


class Sabotage:
    """Closes, cuts or freezes the connection when its moment has come."""

    def __init__(self, knobs: Connection, socket: Socket) -> None:
        self._knobs = knobs
        self._socket = socket
        self._client_messages = 0
        self._server_messages = 0
        self._timers: list[asyncio.TimerHandle] = []

    def set_up(self) -> None:
        """`setupComplete` is out: the timed moments are counted from now."""
        loop = asyncio.get_running_loop()
        for moment in (self._knobs.close_at, self._knobs.abort_at, self._knobs.half_open_at):
            if moment is not None and moment.after_ms is not None:
                self._timers.append(loop.call_later(moment.after_ms / 1000, self._act, moment))

    def client_message(self) -> None:
        self._client_messages += 1
        self._check(client=self._client_messages)

    def server_message(self) -> None:
        self._server_messages += 1
        self._check(server=self._server_messages)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _check(self, client: int = 0, server: int = 0) -> None:
        for moment in (self._knobs.close_at, self._knobs.abort_at, self._knobs.half_open_at):
            if moment is not None and (
                (client and moment.client_message == client) or (server and moment.server_message == server)
            ):
                self._act(moment)

    def _act(self, moment: Moment) -> None:
        if isinstance(moment, CloseAt):
            self._socket.close(moment.code, moment.reason)
        elif moment is self._knobs.abort_at:
            self._socket.abort()
        else:
            self._socket.freeze()


class Outlet:
    """
    Args:
        connection: its number, for the journal.
    """

    def __init__(
        self, socket: Socket, scenario: Scenario, sabotage: Sabotage, journal: Journal, connection: int
    ) -> None:
        self._socket = socket
        self._stream = scenario.stream
        self._sabotage = sabotage
        self._journal = journal
        self._connection = connection
        self._random = random.Random(connection)
        self._frames: asyncio.Queue[tuple[float, str, bytes]] = asyncio.Queue()
        self._last_due = 0.0

    def send(self, message: ServerMessage) -> None:
        self.send_raw(protocol.encode(message), protocol.summary(message))

    def send_raw(self, frame: bytes, what: str = "malformed") -> None:
        """Sends bytes that need not be a message."""
        delay_ms = self._stream.delay_ms + self._random.uniform(0, self._stream.jitter_ms)
        # A message never overtakes another.
        self._last_due = max(self._last_due, asyncio.get_running_loop().time() + delay_ms / 1000)
        self._frames.put_nowait((self._last_due, what, frame))

    async def close(self, code: int, reason: str) -> None:
        """Closes the socket when what was sent before is out."""
        await self._frames.join()
        self._journal.note(self._connection, "closed_by_server", code=code, reason=reason)
        self._socket.close(code, reason)

    async def run(self) -> None:
        """Writes; ends by being cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, what, frame = await self._frames.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            self._journal.frame(self._connection, "out", len(frame), what)
            await self._socket.send_frame(frame, binary=not self._stream.text_frames)
            self._sabotage.server_message()
            self._frames.task_done()
