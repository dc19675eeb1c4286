"""The elements of EBML (RFC 8794) and Matroska (RFC 9559) that a recording's audio needs. No state."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tornado_live.errors import UnsupportedAudio

EBML = 0x1A45DFA3
SEGMENT = 0x18538067
TRACKS = 0x1654AE6B
CLUSTER = 0x1F43B675
TIMESTAMP = 0xE7
SIMPLE_BLOCK = 0xA3
BLOCK_GROUP = 0xA0
BLOCK = 0xA1
DISCARD_PADDING = 0x75A2
DOC_TYPE = 0x4282

_TRACK_ENTRY = 0xAE
_TRACK_NUMBER = 0xD7
_CODEC_ID = 0x86
_CODEC_PRIVATE = 0x63A2
_CONTENT_ENCODINGS = 0x6D80
_AUDIO = 0xE1
_SAMPLING_FREQUENCY = 0xB5
_CHANNELS = 0x9F
_BIT_DEPTH = 0x6264
_DEFAULT_RATE = struct.pack(">f", 8000.0)

LARGEST_SIZES = tuple((1 << 7 * width) - 1 for width in range(9))
"""By the width of a size in bytes; this very value means that the size is unknown."""

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


class Incomplete(Exception):
    """The buffer ends too early: what is read next needs it to reach to `end`."""

    def __init__(self, end: int) -> None:
        self.end = end


class Debris(Exception):
    """These bytes are not an element that belongs here."""


def element_id(buffer: bytes, pos: int) -> tuple[int, int]:
    """RFC 8794, section 5. Returns the id and where the size begins."""
    length = 9 - buffer[pos].bit_length() if pos < len(buffer) else 1
    if length > 4:
        raise Debris
    end = pos + length
    if end >= len(buffer):
        raise Incomplete(end + 1)
    return int.from_bytes(buffer[pos:end]), end


def element_size(buffer: bytes, pos: int) -> tuple[int | None, int]:
    """RFC 8794, section 4 and 6. Returns the size, None for an unknown one, and where the body begins."""
    if pos >= len(buffer):
        raise Incomplete(pos + 1)
    length = 9 - buffer[pos].bit_length()
    if length > 8:
        raise Debris
    end = pos + length
    if end > len(buffer):
        raise Incomplete(end)
    size = int.from_bytes(buffer[pos:end]) & LARGEST_SIZES[length]
    return (None if size == LARGEST_SIZES[length] else size), end


def children(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that a whole element holds."""
    pos = 0
    while pos < len(body):
        try:
            element, pos = element_id(body, pos)
            size, pos = element_size(body, pos)
        except Incomplete:
            raise Debris from None
        if size is None or pos + size > len(body):
            raise Debris
        yield element, body[pos : pos + size]
        pos += size


def all_tracks(tracks: bytes) -> list[Track]:
    """The tracks of a Tracks element (RFC 9559, section 5.1.4); those without sound have no channels.

    Raises:
        Debris: it is damaged.
        UnsupportedAudio: a track is compressed or encrypted.
    """
    return [_read_track(entry) for name, entry in children(tracks) if name == _TRACK_ENTRY]


def _read_track(entry: bytes) -> Track:
    fields = dict(children(entry))
    audio = dict(children(fields.get(_AUDIO, b"")))
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
        raise Debris
    (value,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return value if math.isfinite(value) else 0.0


def frames_of(buffer: bytes, pos: int, end: int, flags: int) -> list[bytes]:
    """Takes a block's frames apart (RFC 9559, section 10.3); empty ones are left out."""
    lacing = flags & _LACING
    if not lacing:
        return [buffer[pos:end]] if end > pos else []
    if pos >= end:
        raise Debris
    count, pos = buffer[pos] + 1, pos + 1
    sizes: list[int] = []
    if lacing == _FIXED_SIZE_LACING:
        if (end - pos) % count:
            raise Debris
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
            value, after = element_size(buffer[:end], pos)
            if value is None:
                raise Debris
            # the first is a size; the others are differences, biased to be signed
            sizes.append(value if not i else sizes[-1] + value - ((1 << 7 * (after - pos) - 1) - 1))
            pos = after
    if pos + sum(sizes) > end or min(sizes, default=0) < 0:
        raise Debris
    bounds = [*itertools.accumulate(sizes, initial=pos), end]
    return [buffer[a:b] for a, b in itertools.pairwise(bounds) if b > a]
