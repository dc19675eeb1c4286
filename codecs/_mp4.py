"""The boxes of MP4 (ISO/IEC 14496-12) that say what a fragmented stream holds. No state, no audio."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tornado_live.errors import AudioBomb, AudioMalformed, UnsupportedAudio

MAX_SAMPLES = 65_536
"""In one fragment: 20 minutes of AAC."""

BOX = struct.Struct(">I4s")

_SAMPLE_ENTRY_BYTES = {0: 28, 1: 44}
"""Before the boxes of an AudioSampleEntry; QuickTime's version 1 is longer (14496-12, 12.2.3)."""

_SAMPLE_CLAIM = re.compile(rb"(?s)stsz....(....)(....)|trun....(....)")
"""Sample size and count of a SampleSizeBox (8.7.3.2), count of a TrackRunBox (8.8.8.2)."""

_SAMPLE_SIZE = 0x200
"""`sample-size-present` among the flags of a TrackRunBox (8.8.8.1)."""

_SETUP_BOXES = {b"dOps", b"esds", b"dfLa", b"alac"}


@dataclass(frozen=True, slots=True)
class Track:
    """An audio track.

    Attributes:
        number: its `track_ID`.
        kind: the four characters of its sample entry: `Opus`, `mp4a`, `fLaC`, …
        setup: the body of the sample entry's set-up box; empty if it has none that is known.
        rate_hz, channels: as the sample entry declares them.
        skip: samples at `rate_hz` to leave out at the start, by the edit list.
        sample_bytes: the default size of a sample; 0 if there is none.
    """

    number: int
    kind: str
    setup: bytes
    rate_hz: int
    channels: int
    skip: int
    sample_bytes: int


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes that a box holds: kind and body.

    Raises:
        AudioMalformed: they do not add up.
    """
    pos = 0
    while pos + BOX.size <= len(data):
        size, kind = BOX.unpack_from(data, pos)
        if size == 0:
            size = len(data) - pos
        if size < BOX.size or pos + size > len(data):
            raise AudioMalformed("An MP4 header is damaged.")
        yield kind, data[pos + BOX.size : pos + size]
        pos += size


def audio_track(moov: bytes) -> Track:
    """The first audio track of a `moov` box.

    Raises:
        UnsupportedAudio: there is none.
        AudioMalformed: the boxes are damaged.
    """
    defaults = {}
    for kind, body in boxes(dict(boxes(moov)).get(b"mvex", b"")):
        if kind == b"trex" and len(body) >= 20:
            defaults[_u32(body, 4)] = _u32(body, 16)
    for kind, body in boxes(moov):
        if kind != b"trak":
            continue
        trak = dict(boxes(body))
        mdia = dict(boxes(trak.get(b"mdia", b"")))
        if mdia.get(b"hdlr", b"")[8:12] == b"soun":
            return _track(trak, mdia, defaults)
    raise UnsupportedAudio("The MP4 stream has no audio track.")


def _track(trak: dict[bytes, bytes], mdia: dict[bytes, bytes], defaults: dict[int, int]) -> Track:
    tkhd, mdhd = trak.get(b"tkhd", b"\0"), mdia.get(b"mdhd", b"\0")
    number = _u32(tkhd, 20 if tkhd[0] else 12)
    timescale = _u32(mdhd, 20 if mdhd[0] else 12)
    stbl = dict(boxes(dict(boxes(mdia.get(b"minf", b""))).get(b"stbl", b"")))
    kind, entry = next(boxes(stbl.get(b"stsd", b"")[8:]), (b"", b""))
    version = _u16(entry, 8)
    if version not in _SAMPLE_ENTRY_BYTES:
        raise UnsupportedAudio("This version of QuickTime's sound description is not supported.")
    rate_hz = _u32(entry, 24) >> 16 or timescale
    inner = dict(boxes(entry[_SAMPLE_ENTRY_BYTES[version] :]))
    inner |= dict(boxes(inner.get(b"wave", b"")))
    setup = next((inner[name] for name in _SETUP_BOXES if name in inner), b"")
    skip = _edit_start(trak.get(b"edts", b"")) * rate_hz // max(1, timescale)
    return Track(
        number,
        kind.decode("ascii", "replace"),
        setup,
        rate_hz,
        _u16(entry, 16),
        skip,
        defaults.get(number, 0),
    )


def _edit_start(edts: bytes) -> int:
    """Where the edit list starts in the media: what is before it is the encoder's delay (8.6.6)."""
    elst = dict(boxes(edts)).get(b"elst", b"")
    if len(elst) < 8:
        return 0
    width, field = (20, ">Qq") if elst[0] else (12, ">Ii")
    for pos in range(8, len(elst) - width + 1, width):
        _, media_time = struct.unpack_from(field, elst, pos)
        if 0 <= media_time < 1 << 20:
            return int(media_time)
    return 0


def check_sample_counts(file: memoryview) -> None:
    """Looks through all of a file but its audio for boxes that claim samples without listing them.

    FFmpeg makes an index of them all: 20 bytes of `stsz` can cost it gigabytes.

    Raises:
        AudioBomb: there is one.
    """
    pos = 0
    while pos + BOX.size <= len(file):
        size, kind = BOX.unpack_from(file, pos)
        if size == 1:
            size = int.from_bytes(file[pos + 8 : pos + 16])
        if size < BOX.size:
            size = len(file) - pos
        for claim in _SAMPLE_CLAIM.finditer(file[pos : pos + size] if kind != b"mdat" else b""):
            sample_bytes, count, in_fragment = (int.from_bytes(field or b"") for field in claim.groups())
            if count * (sample_bytes or 4) > len(file) or in_fragment > MAX_SAMPLES:
                raise AudioBomb("The MP4 file claims to hold more samples than it has bytes for.")
        pos += size


def elementary_stream(esds: bytes) -> tuple[int, bytes]:
    """Object type and DecoderSpecificInfo of an `esds` box (ISO/IEC 14496-1, 7.2.6)."""
    tag, body = _descriptor(esds[4:])
    if tag != 3 or len(body) < 3:
        raise AudioMalformed("The MP4 set-up of AAC is damaged.")
    flags = body[2]
    pos = 3 + (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
    if flags & 0x40:
        pos += 1 + (body[pos] if pos < len(body) else 0)
    tag, config = _descriptor(body[pos:])
    if tag != 4 or len(config) < 13:
        raise AudioMalformed("The MP4 set-up of AAC is damaged.")
    tag, specific = _descriptor(config[13:])
    return config[0], specific if tag == 5 else b""


def _descriptor(data: bytes) -> tuple[int, bytes]:
    if not data:
        return 0, b""
    size, pos = 0, 1
    while pos < len(data) and pos <= 4:
        size = size << 7 | data[pos] & 0x7F
        pos += 1
        if not data[pos - 1] & 0x80:
            break
    return data[0], data[pos : pos + size]


def fragment(moof: bytes, track: Track) -> tuple[int, list[tuple[int, int]]]:
    """A `moof` box's body: its sequence number, and offset from the box's start and size of each of
    the track's samples.

    Raises:
        AudioMalformed: the boxes are damaged.
        AudioBomb: it lists more samples than any honest fragment.
    """
    sequence, samples = 0, []
    for kind, body in boxes(moof):
        if kind == b"mfhd":
            sequence = _u32(body, 4)
        elif kind == b"traf":
            samples += _traf(list(boxes(body)), track, BOX.size + len(moof))
    return sequence, sorted(samples)


def _traf(children: list[tuple[bytes, bytes]], track: Track, moof_bytes: int) -> list[tuple[int, int]]:
    """14496-12, 8.8.7 and 8.8.8. Offsets count from the `moof` box: `default-base-is-moof`."""
    tfhd = dict(children).get(b"tfhd", b"")
    flags = _u32(tfhd, 0)
    if _u32(tfhd, 4) != track.number:
        return []
    if flags & 1:
        raise UnsupportedAudio("MP4 fragments with absolute offsets are not supported.")
    before_size = 8 + 4 * bool(flags & 2) + 4 * bool(flags & 8)
    default_bytes = _u32(tfhd, before_size) if flags & 0x10 else track.sample_bytes
    samples: list[tuple[int, int]] = []
    offset = moof_bytes + BOX.size
    for kind, body in children:
        if kind != b"trun":
            continue
        flags, count = _u32(body, 0), _u32(body, 4)
        if count + len(samples) > MAX_SAMPLES:
            raise AudioBomb("An MP4 fragment claims to hold more samples than any honest one.")
        pos = 8
        if flags & 1:
            (offset,) = struct.unpack(">i", body[8:12].rjust(4, b"\0"))
            pos = 12
        pos += 4 * bool(flags & 4)
        fields = [flag for flag in (0x100, _SAMPLE_SIZE, 0x400, 0x800) if flags & flag]
        table = body[pos : pos + 4 * len(fields) * count]
        if len(table) < 4 * len(fields) * count:
            raise AudioMalformed("An MP4 header is damaged.")
        sizes: Sequence[int] = (default_bytes,) * count
        if flags & _SAMPLE_SIZE:
            values = struct.unpack(f">{len(table) // 4}I", table)
            sizes = values[fields.index(_SAMPLE_SIZE) :: len(fields)]
        for size in sizes:
            samples.append((offset, size))
            offset += size
    return samples


def _u16(data: bytes, pos: int) -> int:
    return _unsigned(data, pos, 2)


def _u32(data: bytes, pos: int) -> int:
    return _unsigned(data, pos, 4)


def _unsigned(data: bytes, pos: int, size: int) -> int:
    if pos + size > len(data):
        raise AudioMalformed("An MP4 header is damaged.")
    return int.from_bytes(data[pos : pos + size])
