"""Clients that send without a pause until they are closed; a process of their own, so that they cost nobody.

    python flooding.py PORT KEY FRAME_IN_HEX COUNT

prints, for each of them, the last bytes that it was sent, in hexadecimal.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from raw import connected, upgrade

MESSAGE = b'{"type":"get_rate_limits"}'
MESSAGE_FRAME = bytes([0x81, 0x80 | len(MESSAGE)]) + bytes(4) + MESSAGE
PING_FRAME = b"\x89\x80" + bytes(4)
BURST = 50
KEPT_BYTES = 60


@asynccontextmanager
async def flooders(
    port: int, frame: bytes, count: int, key: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; it ends when all of them have been closed, or with the context."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, str(port), key, frame.hex(), str(count), stdout=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def closed_with_4429(process: Process) -> int:
    """How many of the flooders were told that they are too fast, and closed, once all are over."""
    out, _ = await process.communicate()
    return out.decode().count((4429).to_bytes(2, "big").hex())


async def _flood(port: int, key: str, frame: bytes) -> bytes:
    """The last bytes that came back."""
    async with connected(port) as (reader, writer):
        writer.write(upgrade(X_API_Key=key) if key else upgrade())
        await reader.readuntil(b"\r\n\r\n")
        sending = asyncio.create_task(_send_on(writer, frame * BURST))
        received = b""
        try:
            while data := await reader.read(65536):
                received = (received + data)[-KEPT_BYTES:]
        except ConnectionError:
            pass
        sending.cancel()
        await asyncio.wait([sending])
        return received


async def _send_on(writer: asyncio.StreamWriter, frames: bytes) -> None:
    try:
        while True:
            writer.write(frames)
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass


async def _main(port: int, key: str, frame: bytes, count: int) -> None:
    for received in await asyncio.gather(*(_flood(port, key, frame) for _ in range(count))):
        print(received.hex(), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3]), int(sys.argv[4])))
