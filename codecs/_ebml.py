"""WebM and Matroska (RFC 8794, RFC 9559) as a push parser: bytes in, audio packets out.

Recorders write a live stream: Segment and Clusters of unknown size, chunks that end one byte into an
element. So the nesting is not followed: element ids are unique, masters are simply entered, and every
other element is taken or skipped by its size. Where the bytes make no sense (a chunk was lost), the
parser looks for the next Cluster or block that does, and counts what it skipped.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioBomb, AudioMalformed, UnsupportedAudio

EBML = 0x1A45DFA3
SEGMENT = 0x18538067
TRACKS = 0x1654AE6B
CLUSTER = 0x1F43B675
TIMESTAMP = 0xE7
SIMPLE_BLOCK = 0xA3
BLOCK_GROUP = 0xA0
BLOCK = 0xA1
DISCARD_PADDING = 0x75A2

_DOC_TYPE = 0x4282
_TRACK_ENTRY = 0xAE
_TRACK_NUMBER = 0xD7
_CODEC_ID = 0x86
_CODEC_PRIVATE = 0x63A2
_CONTENT_ENCODINGS = 0x6D80
_AUDIO = 0xE1
_SAMPLING_FREQUENCY = 0xB5
_CHANNELS = 0x9F
_BIT_DEPTH = 0x6264

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
_LANDMARKS = {EBML, CLUSTER, SIMPLE_BLOCK, BLOCK_GROUP}
_CANDIDATES = re.compile(rb"[\x1A\x1F\xA3\xA0]")
"""Where to look for sense after a loss: elements that can be told from debris, and their first bytes."""

_UNKNOWN_SIZE_SEGMENT = bytes.fromhex("18538067 01FFFFFFFFFFFFFF")
_DEFAULT_RATE = struct.pack(">f", 8000.0)

_FIRST_BYTES = {prefix[0] for prefix in _KNOWN_PREFIXES}
_ONES = tuple((1 << 7 * width) - 1 for width in range(9))
_PLAIN_FLAGS = (0x80, 0x00)
_RESERVED_FLAGS = 0x70
_LACING = 0x06
_XIPH_LACING = 0x02
_FIXED_SIZE_LACING = 0x04


@dataclass(frozen=True, slots=True)
class Track:
    """The audio track of a new stream (RFC 9559, section 5.1.4).

    Attributes:
        number: its number in blocks.
        codec_id: `A_OPUS`, …
        codec_private: the codec's set-up; empty if there is none.
        rate_hz, channels, bit_depth: as declared; `bit_depth` is 0 where it says nothing.
    """

    number: int
    codec_id: str
    codec_private: bytes
    rate_hz: int
    channels: int
    bit_depth: int


class Packet(NamedTuple):
    """One frame of the track.

    Attributes:
        data: the codec's packet, not empty.
        encoded_bytes: what it took in the container; the first frame of a laced block counts for all.
        discard_ns: what to leave out at its end.
    """

    data: bytes
    encoded_bytes: int
    discard_ns: int = 0


class _Incomplete(Exception):
    """The buffer ends too early: what is read next needs it to reach to `end`."""

    def __init__(self, end: int) -> None:
        self.end = end


class _Debris(Exception):
    """These bytes are not an element that belongs here."""


class EbmlDemuxer:
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
        self._frame_begin = 0
        self._other_tracks: frozenset[int] = frozenset()
        self._cluster_time = 0
        self._latest_time = -1
        self._recent: deque[int] = deque(maxlen=64)
        self._lost = False
        self._lost_run = 0
        self._lost_before = 0

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
            elif end := self._plain_block_end(buffer, pos):
                packet = buffer[self._frame_begin : end]
                time = self._cluster_time + int.from_bytes(
                    buffer[self._frame_begin - 3 : self._frame_begin - 1], signed=True
                )
                if self._repeats(time, packet):
                    self._lost_before += end - pos
                else:
                    yield Packet(packet, end - pos)
                pos = end
                continue
            try:
                end, found = self._element(buffer, pos)
            except _Incomplete as incomplete:
                self._wanted = incomplete.end - pos
                break
            except _Debris:
                if self._track is None:
                    raise AudioMalformed("The WebM header is damaged.") from None
                if self._lost:
                    pos += 1
                    self._lost_run += 1
                else:
                    # Chromium ends its chunks one byte into a block: this may be the rest of one.
                    buffer, pos = b"\xa3" + buffer[pos:], 0
                    self._lost, self._lost_run = True, -1
            else:
                self._found_sense()
                yield from found
                pos = end
        self._rest = bytearray(buffer[pos:])

    def _plain_block_end(self, buffer: bytes, pos: int) -> int:
        """Where the block at `pos` ends if it is whole, of our track, not laced and followed by what
        may be an element; 0 if anything is unusual. Nearly all blocks come this way, so it is short.
        """
        if buffer[pos] != SIMPLE_BLOCK or len(buffer) - pos < 16 or not buffer[pos + 1]:
            return 0
        width = 9 - buffer[pos + 1].bit_length()
        body = pos + 1 + width
        end = body + (int.from_bytes(buffer[pos + 1 : body]) & _ONES[width])
        if (
            end < body + 5
            or end > len(buffer)
            or end - body > self._limits.max_block_bytes
            or buffer[body] != self._track_byte
            or buffer[body + 3] not in _PLAIN_FLAGS
            or (end < len(buffer) and buffer[end] not in _FIRST_BYTES)
        ):
            return 0
        self._frame_begin = body + 4
        return end

    def _skip_debris(self, buffer: bytes, pos: int) -> int:
        """Returns where an element that can be recognised may begin, or the buffer's end."""
        candidate = _CANDIDATES.search(buffer, pos)
        end = candidate.start() if candidate else len(buffer)
        self._lost_run += end - pos
        if self._lost_run > self._limits.max_pending_bytes:
            raise AudioMalformed("The WebM stream is damaged beyond repair.")
        return end

    def _found_sense(self) -> None:
        if self._lost:
            self._lost_before, self._lost_run, self._lost = self.lost_bytes, 0, False

    def _element(self, buffer: bytes, pos: int) -> tuple[int, Sequence[Track | Packet]]:
        """Reads the element at `pos`; returns where to go on, and what was found."""
        element, body = _element_id(buffer, pos)
        if self._track is not None and element not in (_LANDMARKS if self._lost else _KNOWN):
            raise _Debris
        size, body = _element_size(buffer, body)
        if element in _MASTERS:
            return body, ()
        if size is None or (self._track is not None and size > _SMALL.get(element, size)):
            raise _Debris
        if element == SIMPLE_BLOCK:
            return self._block(buffer, pos, body, body + size)
        if element == BLOCK_GROUP:
            return self._block_group(buffer, pos, body, body + size)
        if element in (EBML, TRACKS, TIMESTAMP):
            if size > self._limits.max_header_bytes:
                raise AudioBomb("A WebM header claims to be larger than any honest one.")
            if body + size > len(buffer):
                raise _Incomplete(body + size)
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
            doc_type = dict(_children(body)).get(_DOC_TYPE, b"matroska").rstrip(b"\0")
            if doc_type not in (b"webm", b"matroska"):
                raise UnsupportedAudio("The EBML document is not WebM.")
            self._ebml, self._track, self.init_segment = whole, None, b""
            self._track_byte = 0
            self._latest_time = -1
            self._recent.clear()
            return ()
        tracks = [_track(entry) for name, entry in _children(body) if name == _TRACK_ENTRY]
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
        element, at = _element_id(buffer, body)
        if element != BLOCK:
            raise _Debris
        size, at = _element_size(buffer, at)
        if size is None or at + size > end:
            raise _Debris
        discard_ns = 0
        if end <= len(buffer):
            padding = dict(_children(buffer[at + size : end])).get(DISCARD_PADDING, b"")
            discard_ns = int.from_bytes(padding, signed=True)
        return self._block(buffer, pos, at, at + size, end, discard_ns)

    def _block(
        self, buffer: bytes, pos: int, body: int, end: int, next_element: int = 0, discard_ns: int = 0
    ) -> tuple[int, Sequence[Packet]]:
        """A block (RFC 9559, section 10.2) from `body` to `end`, after which `next_element` begins."""
        next_element = next_element or end
        track, at = _element_size(buffer, body)
        if at + 3 > len(buffer):
            raise _Incomplete(at + 3)
        if self._track is None:
            raise _Debris
        if track in self._other_tracks and not self._lost:
            self._skip(next_element - body)
            return body, ()
        flags = buffer[at + 2]
        if track != self._track.number or flags & _RESERVED_FLAGS or at + 3 > end:
            raise _Debris
        if next_element - body > self._limits.max_block_bytes:
            raise AudioBomb("A WebM block claims to be larger than any honest one.")
        if next_element + self._lost > len(buffer):  # to be believed after a loss, it must be followed
            raise _Incomplete(next_element + self._lost)
        frames = _frames(buffer, at + 3, end, flags)
        if not all(map(self.accepts, frames)) or not _begins_element(buffer, next_element):
            raise _Debris
        time = self._cluster_time + int.from_bytes(buffer[at : at + 2], signed=True)
        if frames and self._repeats(time, frames[0]):
            self._lost_before += next_element - pos
            return next_element, ()
        last = len(frames) - 1
        return next_element, [
            Packet(frame, 0 if i else next_element - pos, discard_ns if i == last else 0)
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


def _element_id(buffer: bytes, pos: int) -> tuple[int, int]:
    """RFC 8794, section 5. Returns the id and where the size begins."""
    length = 9 - buffer[pos].bit_length() if pos < len(buffer) else 1
    if length > 4:
        raise _Debris
    end = pos + length
    if end >= len(buffer):
        raise _Incomplete(end + 1)
    return int.from_bytes(buffer[pos:end]), end


def _element_size(buffer: bytes, pos: int) -> tuple[int | None, int]:
    """RFC 8794, section 4 and 6. Returns the size, None for an unknown one, and where the body begins."""
    if pos >= len(buffer):
        raise _Incomplete(pos + 1)
    length = 9 - buffer[pos].bit_length()
    if length > 8:
        raise _Debris
    end = pos + length
    if end > len(buffer):
        raise _Incomplete(end)
    size = int.from_bytes(buffer[pos:end]) & _ONES[length]
    return (None if size == _ONES[length] else size), end


def _begins_element(buffer: bytes, pos: int) -> bool:
    """Whether what is there of the bytes from `pos` on may begin an element."""
    if pos >= len(buffer):
        return True
    length = 9 - buffer[pos].bit_length()
    return buffer[pos : pos + length] in _KNOWN_PREFIXES


def _children(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that a whole element holds."""
    pos = 0
    while pos < len(body):
        try:
            element, pos = _element_id(body, pos)
            size, pos = _element_size(body, pos)
        except _Incomplete:
            raise _Debris from None
        if size is None or pos + size > len(body):
            raise _Debris
        yield element, body[pos : pos + size]
        pos += size


def _track(entry: bytes) -> Track:
    fields = dict(_children(entry))
    audio = dict(_children(fields.get(_AUDIO, b"")))
    if _CONTENT_ENCODINGS in fields:
        raise UnsupportedAudio("WebM tracks that are compressed or encrypted are not supported.")
    return Track(
        number=int.from_bytes(fields.get(_TRACK_NUMBER, b"")),
        codec_id=fields.get(_CODEC_ID, b"").rstrip(b"\0").decode("ascii", "replace"),
        codec_private=fields.get(_CODEC_PRIVATE, b""),
        rate_hz=round(_float(audio.get(_SAMPLING_FREQUENCY, _DEFAULT_RATE))),
        channels=int.from_bytes(audio.get(_CHANNELS, b"\x01")) if _AUDIO in fields else 0,
        bit_depth=int.from_bytes(audio.get(_BIT_DEPTH, b"")),
    )


def _float(data: bytes) -> float:
    """RFC 8794, section 7.3."""
    if len(data) not in (4, 8):
        raise _Debris
    (value,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return value if math.isfinite(value) else 0.0


def _frames(buffer: bytes, pos: int, end: int, flags: int) -> list[bytes]:
    """Takes a block's frames apart (RFC 9559, section 10.3); empty ones are left out."""
    lacing = flags & _LACING
    if not lacing:
        return [buffer[pos:end]] if end > pos else []
    if pos >= end:
        raise _Debris
    count, pos = buffer[pos] + 1, pos + 1
    sizes: list[int] = []
    if lacing == _FIXED_SIZE_LACING:
        if (end - pos) % count:
            raise _Debris
        sizes = [(end - pos) // count] * (count - 1)
    elif lacing == _XIPH_LACING:
        for _ in range(count - 1):
            size, more = 0, 255
            while more == 255 and pos < end:
                more = buffer[pos]
                size, pos = size + more, pos + 1
            sizes.append(size)
    else:
        for i in range(count - 1):
            value, after = _element_size(buffer[:end], pos)
            if value is None:
                raise _Debris
            # the first is a size; the others are differences, biased to be signed
            sizes.append(value if not i else sizes[-1] + value - ((1 << 7 * (after - pos) - 1) - 1))
            pos = after
    if pos + sum(sizes) > end or min(sizes, default=0) < 0:
        raise _Debris
    bounds = [*itertools.accumulate(sizes, initial=pos), end]
    return [buffer[a:b] for a, b in itertools.pairwise(bounds) if b > a]
