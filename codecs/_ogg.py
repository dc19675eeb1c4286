"""Ogg (RFC 3533) as a push parser: bytes in, the packets of one logical stream out, page by page.

A page is taken when it is whole and its checksum is right. After a loss the parser goes on with the
next good page; a packet of which a part is missing is dropped.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioMalformed

MAGIC = b"OggS"
MAX_FALSE_BYTES = 4 * 2**20
"""So much may be checksummed in vain in a row: 3 ms."""

_PAGE = struct.Struct("<4sBBqIIIB")
_CONTINUED, _BEGINS, _ENDS = 1, 2, 4
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class OggPage:
    """A page of the chosen stream.

    Attributes:
        packets: those that end on this page, none of them empty; what is larger than an audio packet
            may be (a picture among the comments) is cut short.
        encoded_bytes: what the whole page takes.
        granule: the codec's count of samples up to the end of the last packet; -1 if none ends here.
        begins, ends: the stream's first and last page.
        raw: the page as it came.
    """

    packets: list[bytes]
    encoded_bytes: int
    granule: int
    begins: bool
    ends: bool
    raw: bytes


class OggDemuxer:
    """The parser's state between chunks.

    Args:
        limits: packets and debris may be as large as these say.
        wants: given the first packet of a logical stream, says whether it is audio to be decoded; the
            first such stream is chosen, the others are skipped.
    """

    def __init__(self, limits: DecodeLimits, wants: Callable[[bytes], bool]) -> None:
        self.lost_bytes = 0
        self._limits = limits
        self._wants = wants
        self._rest = bytearray()
        self._wanted = 1
        self._serial: int | None = None
        self._next_page = 0
        self._packet = bytearray()
        self._packet_is_cut = False
        self._recent: deque[tuple[int, int]] = deque(maxlen=16)
        self._lost_run = 0
        self._false_bytes = 0

    def feed(self, data: bytes) -> Iterator[OggPage]:
        """Takes the next bytes; yields the pages that are complete.

        Raises:
            AudioMalformed: no page follows the damage.
        """
        self._rest += data
        if len(self._rest) < self._wanted:
            return
        buffer, pos = bytes(self._rest), 0
        while True:
            pos = self._skip_debris(buffer, pos)
            end = page_end(buffer, pos)
            self._wanted = end - pos
            if end > len(buffer):
                break
            raw = buffer[pos:end]
            if raw[4] or checksum(raw) != raw[22:26]:
                self._count_debris(1)
                self._count_false(raw)
                pos += 1
                continue
            self._lost_run = self._false_bytes = 0
            pos = end
            page = self._page(raw)
            if page is not None:
                yield page
        self._rest = bytearray(buffer[pos:])

    def _skip_debris(self, buffer: bytes, pos: int) -> int:
        """Returns where a page begins, or where one may begin at the buffer's end."""
        found = buffer.find(MAGIC, pos)
        if found < 0:
            tail = buffer[max(pos, len(buffer) - 3) :]
            kept = next((i for i in range(len(tail)) if MAGIC.startswith(tail[i:])), len(tail))
            found = len(buffer) - len(tail) + kept
        self._count_debris(found - pos)
        return found

    def _count_debris(self, size: int) -> None:
        self.lost_bytes += size
        self._lost_run += size
        if self._lost_run > self._limits.max_pending_bytes:
            raise AudioMalformed("The Ogg stream is damaged beyond repair.")

    def _count_false(self, page: bytes) -> None:
        """False pages may overlap: each costs a checksum over all that it claims to be."""
        self._false_bytes += len(page)
        if self._false_bytes > MAX_FALSE_BYTES:
            raise AudioMalformed("The Ogg stream is damaged beyond repair.")

    def _page(self, raw: bytes) -> OggPage | None:
        """Returns the page if it belongs to the chosen stream."""
        _, _, flags, granule, serial, number, crc, segments = _PAGE.unpack_from(raw)
        table = raw[_PAGE.size : _PAGE.size + segments]
        body = _PAGE.size + segments
        if flags & _BEGINS:
            if not self._wants(raw[body : body + sum(itertools.takewhile(lambda size: size, table))]):
                return None
            self._serial, self._next_page = serial, number
            self._packet.clear()
        elif serial != self._serial:
            return None
        if (number, crc) in self._recent and not flags & _BEGINS:
            self.lost_bytes += len(raw)
            return None
        self._recent.append((number, crc))
        continues = bool(flags & _CONTINUED)
        if number != self._next_page or not continues:
            self.lost_bytes += len(self._packet)
            self._packet.clear()
            self._packet_is_cut = continues
        self._next_page = number + 1 & 0xFFFFFFFF
        packets = list(self._packets(raw, body, table))
        return OggPage(packets, len(raw), granule, bool(flags & _BEGINS), bool(flags & _ENDS), raw)

    def _packets(self, raw: bytes, pos: int, table: bytes) -> Iterator[bytes]:
        """RFC 3533, section 5: a segment of less than 255 bytes ends a packet."""
        for size in table:
            if self._packet_is_cut:
                self.lost_bytes += size
            elif len(self._packet) <= self._limits.max_block_bytes:  # what is longer is no audio
                self._packet += raw[pos : pos + size]
            pos += size
            if size < 255:
                if self._packet and not self._packet_is_cut:
                    yield bytes(self._packet)
                self._packet.clear()
                self._packet_is_cut = False


def page_end(buffer: bytes, pos: int) -> int:
    """Where the page at `pos` ends, as far as its bytes tell: at least so many are needed."""
    end = pos + _PAGE.size
    if end <= len(buffer):
        end += buffer[end - 1]
        if end <= len(buffer):
            end += sum(buffer[pos + _PAGE.size : end])
    return end


def checksum(page: bytes) -> bytes:
    """The four bytes that belong at offset 22 of a page.

    Ogg's CRC runs the bits of a byte the other way round than zlib's and starts from 0, so zlib's is
    given reversed bytes and its result is reversed.
    """
    zeroed = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED_BITS)
    return (zlib.crc32(zeroed, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED_BITS)
