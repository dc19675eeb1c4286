"""MP4: fragmented, as Chromium (Opus) and Safari (AAC) record it; whole files through PyAV."""

from __future__ import annotations

import re
from collections import deque

from tornado_live import hookimpl
from tornado_live.audio import SNIFF_BYTES, Codec, DecodeLimits, StreamFormat, StreamInfo
from tornado_live.errors import AudioBomb, AudioMalformed, UnsupportedAudio

from ._flac import open_flac
from ._mp4 import BOX, Track, audio_track, check_sample_counts, elementary_stream, fragment
from ._opus import OpusHead, open_opus
from ._push import Parser, PushDecoder
from ._pyav import Findings, PacketDecoder, PyavDecoder, WholeFileDecoder, check_sound

_HEADERS = {b"ftyp", b"moov", b"moof"}
_SKIPPED = {b"styp", b"free", b"skip", b"wide", b"sidx", b"ssix", b"emsg", b"prft", b"uuid", b"mfra", b"meta",
            b"udta", b"pdin"}  # fmt: skip
_LANDMARK = re.compile(rb"(?s)\0...moof\0\0\0\x10mfhd|\0\0\0.ftyp")
_LANDMARK_BYTES = 16

_AAC_OBJECT_TYPES = {0x40, 0x66, 0x67, 0x68}
_MP3_OBJECT_TYPES = {0x69, 0x6B}


class Mp4Decoder(PushDecoder):
    """Decodes each sample of a fragment as soon as its bytes are there; see `AudioDecoder`.

    After a loss it goes on with the next `moof` box. A new header begins a new stream.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._findings = Findings("mp4")
        self._ftyp = b""
        self._track: Track | None = None
        self._packets: PacketDecoder | None = None
        self._samples: deque[tuple[int, int]] = deque()
        self._since_moof = 0
        self._overhead = 0
        self._repeated = False
        self._recent: deque[int] = deque(maxlen=16)
        self._lost_bytes = 0
        super().__init__()

    @property
    def info(self) -> StreamInfo | None:
        return self._findings.of(self._packets, self._lost_bytes)

    def flush(self) -> bytes:
        return b"" if self._packets is None else self._packets.flush()

    def _parse(self) -> Parser:
        while True:
            head = yield BOX.size
            size, kind = BOX.unpack(head)
            if size == 1:
                head += yield 8
                size = int.from_bytes(head[8:])
            left = size - len(head)
            known = kind in _HEADERS or kind in _SKIPPED or kind == b"mdat"
            if left < 0 or not (known or self._track is None):
                yield from self._find_sense(head)
            elif kind in _HEADERS:
                if size > self._limits.max_header_bytes:
                    raise AudioBomb("An MP4 header claims to be larger than any honest one.")
                body = (yield left) if left else b""
                try:
                    self._header(kind, head, body)
                except AudioMalformed:
                    if self._track is None or kind != b"moof":
                        raise
                    self._lost_bytes += len(head)
                    yield from self._find_sense(body)
            elif size > self._limits.max_whole_bytes:
                raise AudioBomb("An MP4 box claims to be larger than a whole recording may be.")
            elif kind == b"mdat":
                self._since_moof += len(head)
                yield from self._mdat(left)
            else:
                self._since_moof += size
                yield from self._skip(left)

    def _header(self, kind: bytes, head: bytes, body: bytes) -> None:
        if kind == b"ftyp":
            self._ftyp = head + body
        elif kind == b"moov":
            self._pcm.append(self.flush())
            self._track = audio_track(body)
            self._packets = _open_track(self._track, self._limits)
            self.init_segment = self._ftyp + head + body
            self._recent.clear()
        elif self._track is None:
            raise AudioMalformed("The MP4 stream begins with a fragment.")
        else:
            sequence, samples = fragment(body, self._track)
            fingerprint = hash(body)
            self._repeated = sequence > 0 and fingerprint in self._recent  # a chunk was sent twice
            if self._repeated:
                self._lost_bytes += len(head + body)
            self._recent.append(fingerprint)
            self._samples = deque(() if self._repeated else samples)
            self._since_moof = self._overhead = len(head + body)

    def _mdat(self, left: int) -> Parser:
        """Decodes the samples that lie in the next `left` bytes."""
        at, end = self._since_moof, self._since_moof + left
        while self._repeated and at < end:
            skipped = len((yield at - end))
            self._lost_bytes += skipped
            at += skipped
        while self._samples and self._samples[0][0] < end and self._packets is not None:
            offset, size = self._samples.popleft()
            if offset < at or not size:
                continue
            if size > self._limits.max_block_bytes:
                raise AudioBomb("An MP4 sample claims to be larger than any honest one.")
            if offset + size > end:
                break
            if offset > at:
                yield from self._skip(offset - at)
            sample = yield size
            at = offset + size
            if not self._packets.accepts(sample):
                self._samples.clear()
                yield from self._find_sense(sample)
                return
            self._pcm.append(self._packets.decode(sample, size + self._overhead))
            self._overhead = 0
        yield from self._skip(end - at)
        self._since_moof = end

    def _find_sense(self, debris: bytes) -> Parser:
        """Goes on with the next `moof` or `ftyp` box and counts what is skipped: one byte at least."""
        if self._track is None:
            raise AudioMalformed("The MP4 header is damaged.")
        debris, skipped = debris[1:], 1
        self._lost_bytes += 1
        while (landmark := _LANDMARK.search(debris)) is None:
            if skipped > self._limits.max_pending_bytes:
                raise AudioMalformed("The MP4 stream is damaged beyond repair.")
            kept = debris[-_LANDMARK_BYTES + 1 :]
            skipped += len(debris) - len(kept)
            self._lost_bytes += len(debris) - len(kept)
            debris = kept + (yield -4096)
        self._lost_bytes += landmark.start()
        self._give_back(debris[landmark.start() :])


class M4aDecoder(WholeFileDecoder):
    """See `tornado_live.audio.AudioDecoder`."""

    def __init__(self, limits: DecodeLimits) -> None:
        super().__init__("m4a", limits)

    def flush(self) -> bytes:
        with self._file.getbuffer() as file:
            check_sample_counts(file)
        return super().flush()


def _open_track(track: Track, limits: DecodeLimits) -> PacketDecoder:
    rate_hz, channels, setup = track.rate_hz, track.channels, track.setup
    if track.kind == "Opus":
        return open_opus(OpusHead.parse_mp4(setup, track.skip), limits)
    if track.kind == "fLaC":
        return open_flac(setup[8:42], limits)
    check_sound(rate_hz, channels, limits)
    if track.kind == "alac":
        extradata = (12 + len(setup) - 4).to_bytes(4) + b"alac" + setup
        return PyavDecoder("alac", extradata, rate_hz, channels, limits)
    if track.kind == "mp4a":
        object_type, specific = elementary_stream(setup)
        if object_type in _AAC_OBJECT_TYPES:
            return PyavDecoder("aac", specific, rate_hz, channels, limits, skip=track.skip)
        if object_type in _MP3_OBJECT_TYPES:
            return PyavDecoder("mp3", b"", rate_hz, channels, limits, skip=track.skip)
    raise UnsupportedAudio(f"MP4 audio of the kind {track.kind!r} is not supported.")


def _is_fragmented(head: bytes) -> bool | None:
    """Whether an MP4 stream that begins with `head` is fragmented; None while it cannot be told.

    Raises:
        ValueError: it is not MP4.
    """
    pos = 0
    while len(head) - pos >= BOX.size:
        size, kind = BOX.unpack_from(head, pos)
        if pos == 0 and kind != b"ftyp":
            raise ValueError
        if kind in (b"mdat", b"moof") or size < BOX.size:
            return bool(kind == b"moof")
        end = pos + size
        if kind == b"moov" and (end <= len(head) or len(head) >= SNIFF_BYTES):
            return b"mvex" in head[pos:end]
        pos = end
    if pos == 0 and not (head[:1] == b"\0" and b"ftyp".startswith(head[4:8])):
        raise ValueError
    return False if len(head) >= SNIFF_BYTES else None


def sniff_fragmented(head: bytes, declared: StreamFormat) -> bool | None:
    """`ftyp`, then a `moov` with an `mvex` box (14496-12, 8.8.1)."""
    try:
        return _is_fragmented(head)
    except ValueError:
        return False


def sniff_whole(head: bytes, declared: StreamFormat) -> bool | None:
    """`ftyp`, then anything that is not fragmented."""
    try:
        fragmented = _is_fragmented(head)
    except ValueError:
        return False
    return None if fragmented is None else not fragmented


@hookimpl(trylast=True)
def tornado_live_codecs() -> list[Codec]:
    return [
        Codec(
            name="mp4",
            summary="MP4, fragmented as recorders write it: Opus; AAC, FLAC, ALAC, MP3",
            mime_types=("audio/mp4", "video/mp4"),
            sniff=sniff_fragmented,
            open=lambda declared, limits: Mp4Decoder(limits),
            labels=("fmp4",),
            engine="libopus",
        ),
        Codec(
            name="m4a",
            summary="MP4 and 3GP files, decoded when they are complete: AAC, ALAC, AMR and more",
            mime_types=("audio/m4a", "audio/x-m4a", "audio/3gpp", "audio/3gpp2"),
            sniff=sniff_whole,
            open=lambda declared, limits: M4aDecoder(limits),
            labels=("3gp", "mov"),
            blocking=True,
            engine="PyAV",
        ),
    ]
