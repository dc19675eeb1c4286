"""Decoders written as a format is described, from top to bottom, though the bytes come in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator

Parser = Generator[int, bytes, None]
"""Yields n > 0 to be sent n bytes, or -n to be sent 1 to n, as soon as there are any."""


class PushDecoder(ABC):
    """The `decode` of an `AudioDecoder` whose format is a `Parser`, which adds what it decodes to `_pcm`."""

    def __init__(self) -> None:
        self.init_segment = b""
        self._pcm: list[bytes] = []
        self._rest = bytearray()
        self._given_back = b""
        self._parser = self._parse()
        self._wanted = next(self._parser)

    @abstractmethod
    def _parse(self) -> Parser: ...

    def decode(self, data: bytes) -> bytes:
        if len(self._rest) + len(data) < self._wanted:
            self._rest += data
            return b""
        buffer = bytes(self._rest) + data if self._rest else data
        pos, wanted = 0, self._wanted
        while (left := len(buffer) - pos) and left >= wanted:
            piece = buffer[pos : pos + (wanted if wanted > 0 else -wanted)]
            pos += len(piece)
            self._wanted = wanted = self._parser.send(piece)
            if self._given_back:
                buffer, pos = self._given_back + buffer[pos:], 0
                self._given_back = b""
        self._rest = bytearray(buffer[pos:])
        pcm, self._pcm = self._pcm, []
        return pcm[0] if len(pcm) == 1 else b"".join(pcm)

    def _skip(self, size: int) -> Parser:
        while size:
            size -= len((yield -size))

    def _give_back(self, data: bytes) -> None:
        """Puts bytes back before what comes next."""
        self._given_back = data
