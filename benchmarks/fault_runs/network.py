"""A network that fails: a TCP proxy on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Self

CHUNK_BYTES = 4096


class FaultProxy:
    """Carries every connection to `port` on loopback, until told otherwise.

    Attributes:
        port: where it listens.
        carried_down: bytes from the server to its clients so far, over all connections.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._cut_down_at: int | None = None
        self._cut_up_at: int | None = None
        self._refusing = False
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut = asyncio.Event()
        self.carried_down = 0
        self.carried_up = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.sever()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    def cut_after(self, *, down: int | None = None, up: int | None = None) -> None:
        """Cuts all connections so many bytes from now; in the middle of whatever it is."""
        self.cut.clear()
        self._cut_down_at = None if down is None else self.carried_down + down
        self._cut_up_at = None if up is None else self.carried_up + up

    def sever(self, *, refuse: bool = False) -> None:
        """Cuts all connections now, with a reset; `refuse`: takes no new ones until `restore`."""
        self._refusing = refuse
        self._cut_down_at = self._cut_up_at = None
        for writer in list(self._writers):
            _reset(writer)
        self.cut.set()

    def restore(self) -> None:
        self._refusing = False

    async def _accept(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(client)
            return
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            _reset(client)
            return
        self._writers |= {client, server}
        for reader, writer, is_down in ((client_reader, server, False), (server_reader, client, True)):
            pipe = asyncio.create_task(self._carry(reader, writer, is_down=is_down))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_down: bool
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                cut_at = self._cut_down_at if is_down else self._cut_up_at
                carried = self.carried_down if is_down else self.carried_up
                if cut_at is not None and carried + len(data) >= cut_at:
                    writer.write(data[: cut_at - carried])
                    await writer.drain()
                    # Let the last bytes leave before the reset drops them.
                    await asyncio.sleep(0.01)
                    self.sever(refuse=True)
                    return
                if is_down:
                    self.carried_down += len(data)
                else:
                    self.carried_up += len(data)
                writer.write(data)
                await writer.drain()
        except (ConnectionError, OSError):
            pass  # the other side of a connection that is going away
        finally:
            self._writers.discard(writer)
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
