"""WebM and Matroska (RFC 9559) as a push parser: bytes in, audio packets out.

Recorders write a live stream: Segment and Clusters of unknown size, chunks that end one byte into an
element. So the nesting is not followed: element ids are unique, masters are simply entered, and every
other element is taken or skipped by its size. Where the bytes make no sense (a chunk was lost), the
parser looks for the next Cluster or block that does, and counts what it skipped.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioBomb, AudioMalformed, UnsupportedAudio

from ._ebml import (
    BLOCK,
    BLOCK_GROUP,
    CLUSTER,
    DISCARD_PADDING,
    DOC_TYPE,
    EBML,
    LARGEST_SIZES,
    SEGMENT,
    SIMPLE_BLOCK,
    TIMESTAMP,
    TRACKS,
    Debris,
    Incomplete,
    Track,
    all_tracks,
    children,
    element_id,
    element_size,
    frames_of,
)

_MASTERS = {SEGMENT, CLUSTER}
_SMALL = {TIMESTAMP: 8, 0xA7: 8, 0xAB: 8, 0xBF: 8, 0xEC: 4096}
"""Timestamp, Position, PrevSize, CRC-32 and Void: their ids are one byte, so debris may look like them
and must not make the parser skip what is good. The sizes are those of honest ones within clusters."""
_SKIPPED = {0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469}
"""SeekHead, Info, Cues, Tags, Chapters, Attachments."""
_KNOWN = {EBML, SEGMENT, TRACKS, CLUSTER, SIMPLE_BLOCK, BLOCK_GROUP, *_SMALL, *_SKIPPED}
_KNOWN_PREFIXES = {
    whole[: i + 1]
    for whole in (element.to_bytes((element.bit_length() + 7) // 8) for element in _KNOWN)
    for i in range(len(whole))
}
_FIRST_BYTES = {prefix[0] for prefix in _KNOWN_PREFIXES}

_LANDMARKS = {EBML, CLUSTER, SIMPLE_BLOCK, BLOCK_GROUP}
_CANDIDATES = re.compile(rb"[\x1A\x1F\xA3\xA0]")
"""Where to look for sense after a loss: elements that can be told from debris, and their first bytes."""

MAX_FALSE_STARTS = 1000
"""So often in a row debris may look like a block; each look costs some 20 µs."""

_UNKNOWN_SIZE_SEGMENT = bytes.fromhex("18538067 01FFFFFFFFFFFFFF")
_PLAIN_FLAGS = (0x80, 0x00)


def _plain_head(size_byte: int) -> tuple[Callable[[bytes, int], tuple[Any, ...]], int, int]:
    """How to read the head of a block whose size begins so: what unpacks size, track, time and flags; the
    width of the size in bytes, and its largest value. Other widths are left to `_element`."""
    width = 9 - size_byte.bit_length()
    field = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(width)
    if field is None:
        return lambda buffer, pos: (0, 0, 0, -1), 0, 0
    return struct.Struct(f">x{field}BhB").unpack_from, width, LARGEST_SIZES[width]


_PLAIN_HEADS = tuple(map(_plain_head, range(256)))
_PLAIN_HEAD_BYTES = 13
_RESERVED_FLAGS = 0x70


Packet = tuple[bytes, int, int]
"""One frame of the track: the codec's packet, which is not empty; what it took in the container (the first
frame of a laced block counts for all); nanoseconds to leave out at its end."""


class WebmDemuxer:
    """The parser's state between chunks.

    Attributes:
        init_segment: a header from which the current stream's clusters can be decoded; empty until
            its Tracks element has arrived.
        accepts: says whether bytes may be a packet of the track's codec; to be set when `feed` gives
            a `Track`.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self.init_segment = b""
        self.accepts: Callable[[bytes], bool] = bool
        self._limits = limits
        self._rest = bytearray()
        self._wanted = 1
        self._to_skip = 0
        self._ebml = b""
        self._track: Track | None = None
        self._track_byte = 0
        self._other_tracks: frozenset[int] = frozenset()
        self._cluster_time = 0
        self._latest_time = -1
        self._recent: deque[int] = deque(maxlen=64)
        self._lost = False
        self._lost_run = 0
        self._lost_before = 0
        self._false_starts = 0

    @property
    def lost_bytes(self) -> int:
        """Bytes that fitted nowhere, and repeated blocks."""
        return self._lost_before + max(0, self._lost_run)

    def feed(self, data: bytes) -> Iterator[Track | Packet]:
        """Takes the next bytes; yields what is complete. The iterator must be read to its end.

        Raises:
            AudioMalformed: no header can be read, or nothing that makes sense follows the damage.
            AudioBomb: an element is larger than the limits.
            UnsupportedAudio: not WebM, or no audio track in it.
        """
        self._rest += data
        if len(self._rest) < self._wanted:
            return
        buffer, pos = bytes(self._rest), 0
        self._wanted = 1
        while pos < len(buffer):
            if self._to_skip:
                step = min(self._to_skip, len(buffer) - pos)
                self._to_skip -= step
                pos += step
                continue
            if self._lost:
                pos = self._skip_debris(buffer, pos)
                if pos == len(buffer):
                    break
            else:
                pos = yield from self._plain_blocks(buffer, pos)
                if pos == len(buffer) or self._wanted > 1:
                    break
            try:
                end, found = self._element(buffer, pos)
            except Incomplete as incomplete:
                self._wanted = incomplete.end - pos
                break
            except Debris:
                if self._track is None:
                    raise AudioMalformed("The WebM header is damaged.") from None
                if self._lost:
                    pos += 1
                    self._lost_run += 1
                    self._false_starts += 1
                    if self._false_starts > MAX_FALSE_STARTS:
                        raise AudioMalformed("The WebM stream is damaged beyond repair.") from None
                else:
                    # Chromium ends its chunks one byte into a block: this may be the rest of one.
                    buffer, pos = b"\xa3" + buffer[pos:], 0
                    self._lost, self._lost_run, self._false_starts = True, -1, 0
            else:
                self._found_sense()
                yield from found
                pos = end
        self._rest = bytearray(buffer[pos:])

    def _plain_blocks(self, buffer: bytes, pos: int) -> Generator[Packet, None, int]:
        """Yields the packets of the blocks from `pos` on that are of our track, not laced and followed by
        what may be an element; returns where they end. Nearly all blocks come this way.
        """
        length = len(buffer)
        while length - pos >= _PLAIN_HEAD_BYTES and buffer[pos] == SIMPLE_BLOCK:
            unpack, width, largest = _PLAIN_HEADS[buffer[pos + 1]]
            size, track, time, flags = unpack(buffer, pos)
            begin = pos + 1 + width + 4
            end = begin - 4 + (size & largest)
            if (
                track != self._track_byte
                or flags not in _PLAIN_FLAGS
                or not begin < end <= begin - 4 + self._limits.max_block_bytes
                or (end < length and buffer[end] not in _FIRST_BYTES)
            ):
                break
            if end > length:
                self._wanted = end - pos
                break
            packet = buffer[begin:end]
            if self._repeats(self._cluster_time + time, packet):
                self._lost_before += end - pos
            else:
                yield packet, end - pos, 0
            pos = end
        return pos

    def _skip_debris(self, buffer: bytes, pos: int) -> int:
        """Returns where an element that can be recognised may begin, or the buffer's end."""
        patience = self._limits.max_pending_bytes - self._lost_run + 1
        stop = min(len(buffer), pos + patience)
        candidates = (found.start() for found in _CANDIDATES.finditer(buffer, pos, stop))
        end = next((at for at in candidates if self._may_make_sense(buffer, at)), stop)
        self._lost_run += end - pos
        if self._lost_run > self._limits.max_pending_bytes:
            raise AudioMalformed("The WebM stream is damaged beyond repair.")
        return end

    def _may_make_sense(self, buffer: bytes, pos: int) -> bool:
        """Sorts out most debris more cheaply than `_element` does, as far as the bytes are there."""
        if buffer[pos] not in (SIMPLE_BLOCK, BLOCK_GROUP):
            return buffer[pos : pos + 4] in _KNOWN_PREFIXES
        at = pos
        for element in (BLOCK_GROUP, BLOCK) if buffer[pos] == BLOCK_GROUP else (SIMPLE_BLOCK,):
            if at < len(buffer) and buffer[at] != element:
                return False
            if at + 1 >= len(buffer):
                return True
            at += 10 - buffer[at + 1].bit_length()
        return at >= len(buffer) or buffer[at] == self._track_byte or not self._track_byte

    def _found_sense(self) -> None:
        if self._lost:
            self._lost_before, self._lost_run, self._lost = self.lost_bytes, 0, False

    def _element(self, buffer: bytes, pos: int) -> tuple[int, Sequence[Track | Packet]]:
        """Reads the element at `pos`; returns where to go on, and what was found."""
        element, body = element_id(buffer, pos)
        if self._track is not None and element not in (_LANDMARKS if self._lost else _KNOWN):
            raise Debris
        size, body = element_size(buffer, body)
        if element in _MASTERS:
            return body, ()
        if size is None or (self._track is not None and size > _SMALL.get(element, size)):
            raise Debris
        if element == SIMPLE_BLOCK:
            return self._block(buffer, pos, body, body + size)
        if element == BLOCK_GROUP:
            return self._block_group(buffer, pos, body, body + size)
        if element in (EBML, TRACKS, TIMESTAMP):
            if size > self._limits.max_header_bytes:
                raise AudioBomb("A WebM header claims to be larger than any honest one.")
            if body + size > len(buffer):
                raise Incomplete(body + size)
            return body + size, self._header(element, buffer[pos : body + size], buffer[body : body + size])
        self._skip(size)
        return body, ()

    def _skip(self, size: int) -> None:
        if size > self._limits.max_whole_bytes:
            raise AudioBomb("A WebM element claims to be larger than a whole recording may be.")
        self._to_skip = size

    def _header(self, element: int, whole: bytes, body: bytes) -> Sequence[Track]:
        if element == TIMESTAMP:
            self._cluster_time = int.from_bytes(body)
            return ()
        if element == EBML:
            doc_type = dict(children(body)).get(DOC_TYPE, b"matroska").rstrip(b"\0")
            if doc_type not in (b"webm", b"matroska"):
                raise UnsupportedAudio("The EBML document is not WebM.")
            self._ebml, self._track, self.init_segment = whole, None, b""
            self._track_byte = 0
            self._latest_time = -1
            self._recent.clear()
            return ()
        tracks = all_tracks(body)
        audio = next((track for track in tracks if track.channels), None)
        if audio is None:
            raise UnsupportedAudio("The WebM stream has no audio track.")
        self._track = audio
        self._track_byte = 0x80 | audio.number if audio.number < 0x7F else 0
        self._other_tracks = frozenset(track.number for track in tracks) - {audio.number}
        self.init_segment = self._ebml + _UNKNOWN_SIZE_SEGMENT + whole
        return (audio,)

    def _block_group(self, buffer: bytes, pos: int, body: int, end: int) -> tuple[int, Sequence[Packet]]:
        """A block with its companions (RFC 9559, section 5.1.3.5); the block comes first."""
        element, at = element_id(buffer, body)
        if element != BLOCK:
            raise Debris
        size, at = element_size(buffer, at)
        if size is None or at + size > end:
            raise Debris
        discard_ns = 0
        if end <= len(buffer):
            padding = dict(children(buffer[at + size : end])).get(DISCARD_PADDING, b"")
            discard_ns = int.from_bytes(padding, signed=True)
        return self._block(buffer, pos, at, at + size, end, discard_ns)

    def _block(
        self, buffer: bytes, pos: int, body: int, end: int, next_element: int = 0, discard_ns: int = 0
    ) -> tuple[int, Sequence[Packet]]:
        """A block (RFC 9559, section 10.2) from `body` to `end`, after which `next_element` begins."""
        next_element = next_element or end
        track, at = element_size(buffer, body)
        if at + 3 > len(buffer):
            raise Incomplete(at + 3)
        if self._track is None:
            raise Debris
        if track in self._other_tracks and not self._lost:
            self._skip(next_element - body)
            return body, ()
        flags = buffer[at + 2]
        if track != self._track.number or flags & _RESERVED_FLAGS or at + 3 > end:
            raise Debris
        if next_element - body > self._limits.max_block_bytes:
            raise AudioBomb("A WebM block claims to be larger than any honest one.")
        if next_element + self._lost > len(buffer):  # to be believed after a loss, it must be followed
            raise Incomplete(next_element + self._lost)
        frames = frames_of(buffer, at + 3, end, flags)
        if not all(map(self.accepts, frames)) or not _begins_element(buffer, next_element):
            raise Debris
        time = self._cluster_time + int.from_bytes(buffer[at : at + 2], signed=True)
        if frames and self._repeats(time, frames[0]):
            self._lost_before += next_element - pos
            return next_element, ()
        last = len(frames) - 1
        return next_element, [
            (frame, 0 if i else next_element - pos, discard_ns if i == last else 0)
            for i, frame in enumerate(frames)
        ]

    def _repeats(self, time: int, packet: bytes) -> bool:
        """Whether the same block was here before: a chunk was sent twice."""
        fingerprint = hash(packet) ^ time
        if time <= self._latest_time:
            return fingerprint in self._recent
        self._latest_time = time
        self._recent.append(fingerprint)
        return False


def _begins_element(buffer: bytes, pos: int) -> bool:
    """Whether what is there of the bytes from `pos` on may begin an element."""
    if pos >= len(buffer):
        return True
    length = 9 - buffer[pos].bit_length()
    return buffer[pos : pos + length] in _KNOWN_PREFIXES
