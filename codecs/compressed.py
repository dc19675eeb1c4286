"""MP3, ADTS AAC and FLAC without a container: cut into frames here, decoded by PyAV."""

from __future__ import annotations

import re
from collections.abc import Callable

from tornado_live import hookimpl
from tornado_live.audio import SNIFF_BYTES, TARGET, Codec, DecodeLimits, StreamFormat, StreamInfo, begins_with
from tornado_live.errors import AudioMalformed

from ._flac import STREAMINFO_BYTES, open_flac
from ._mpeg import (
    DECODER_DELAY,
    HEADER_BYTES,
    Frame,
    ReadFrame,
    adts_frame,
    frames_in_a_row,
    id3_bytes,
    mp3_frame,
    xing_tag,
)
from ._push import Parser, PushDecoder
from ._pyav import PyavDecoder, check_sound

_ID3_HEAD = 10
_ID3V1_BYTES = 128
_FLAC_MAGIC = b"fLaC"
_SYNC = re.compile(rb"\xFF")
_LANDMARK = re.compile(rb"\xFF|TAG|ID3")
"""Where to look for sense: a frame's first byte, a tag."""


class _FrameDecoder(PushDecoder):
    """A stream of frames that say their own size; see `tornado_live.audio.AudioDecoder`.

    Tags before, between and behind the frames are skipped; what is neither frame nor tag is counted as
    lost.
    """

    def __init__(self, name: str, read: ReadFrame, limits: DecodeLimits) -> None:
        self._name = name
        self._read = read
        self._limits = limits
        self._decoder: PyavDecoder | None = None
        self._lost_bytes = 0
        self._passed = 0
        self._end: int | None = None
        super().__init__()

    @property
    def info(self) -> StreamInfo | None:
        decoder = self._decoder
        if decoder is None:
            return None
        lost_bytes = self._lost_bytes + decoder.lost_bytes
        return StreamInfo(self._name, self._name, decoder.rate_hz, decoder.channels, lost_bytes)

    def decode(self, data: bytes) -> bytes:
        return self._up_to_end(super().decode(data))

    def flush(self) -> bytes:
        return b"" if self._decoder is None else self._up_to_end(self._decoder.flush())

    def _parse(self) -> Parser:
        while True:
            head = yield HEADER_BYTES
            frame = self._read(head, 0)
            if frame is not None:
                data = head + (yield frame.size - len(head))
                self._frame(frame, data)
            elif head.startswith(b"ID3"):
                head += yield _ID3_HEAD - len(head)
                size = id3_bytes(head)
                if size is None:
                    yield from self._find_frame(head)
                else:
                    yield from self._skip(size - _ID3_HEAD)
            elif head.startswith(b"TAG"):
                yield from self._skip(_ID3V1_BYTES - len(head))
            else:
                yield from self._find_frame(head)

    def _find_frame(self, debris: bytes) -> Parser:
        """Goes on with the first frame that another one follows; counts what it skips, a byte at least."""
        skipped, pos = 0, 1
        while True:
            end = max(pos, len(debris) - HEADER_BYTES + 1)
            for at in (found.start() for found in _LANDMARK.finditer(debris, pos)):
                if at >= end:
                    break
                count, ended = frames_in_a_row(debris, at, self._read, 2)
                if count >= 2 or debris[at] != 0xFF:
                    self._lost_bytes += at
                    self._give_back(debris[at:])
                    return
                if count and not ended:
                    end = at
            pos = end
            if skipped + pos > self._limits.max_pending_bytes:
                raise AudioMalformed(f"The {self._name} stream is damaged beyond repair.")
            skipped += pos
            self._lost_bytes += pos
            debris, pos = debris[pos:] + (yield -4096), 0

    def _frame(self, frame: Frame, data: bytes) -> None:
        if self._decoder is None:
            check_sound(frame.rate_hz, frame.channels, self._limits)
            skip = self._start(frame, data)
            self._decoder = PyavDecoder(
                self._name, b"", frame.rate_hz, frame.channels, self._limits, skip=skip or 0
            )
            if skip is not None:
                return
        self._pcm.append(self._decoder.decode(data, len(data)))

    def _start(self, frame: Frame, data: bytes) -> int | None:
        """Samples to leave out at the start if the first frame says so instead of holding audio."""
        return None

    def _up_to_end(self, pcm: bytes) -> bytes:
        if self._end is not None:
            pcm = pcm[: max(0, 2 * (self._end - self._passed))]
        self._passed += len(pcm) // 2
        return pcm


class Mp3Decoder(_FrameDecoder):
    """See `tornado_live.audio.AudioDecoder`. LAME's tag makes it exact at both ends."""

    def __init__(self, limits: DecodeLimits) -> None:
        super().__init__("mp3", mp3_frame, limits)

    def _start(self, frame: Frame, data: bytes) -> int | None:
        tag = xing_tag(data, frame)
        if tag is None:
            return None
        if tag.frames:
            samples = tag.frames * frame.samples - tag.delay - tag.padding
            self._end = -(-samples * TARGET.rate_hz // frame.rate_hz)
        return tag.delay + DECODER_DELAY


class FlacDecoder(PushDecoder):
    """See `tornado_live.audio.AudioDecoder`. FFmpeg's parser holds back some frames to find their ends."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._decoder: PyavDecoder | None = None
        super().__init__()

    @property
    def info(self) -> StreamInfo | None:
        decoder = self._decoder
        if decoder is None:
            return None
        return StreamInfo("flac", "flac", decoder.rate_hz, decoder.channels, decoder.lost_bytes)

    def flush(self) -> bytes:
        if self._decoder is None:
            return b""
        self._pass(self._decoder, self._decoder.split(None))
        pcm, self._pcm = self._pcm, []
        return b"".join(pcm) + self._decoder.flush()

    def _parse(self) -> Parser:
        """RFC 9639, section 8: the magic, metadata blocks of which the first is STREAMINFO, frames."""
        magic = yield len(_FLAC_MAGIC)
        if magic != _FLAC_MAGIC:
            raise AudioMalformed("The FLAC header is damaged.")
        head = yield 4
        streaminfo = yield STREAMINFO_BYTES
        if head[0] & 0x7F or head[1:] != STREAMINFO_BYTES.to_bytes(3):
            raise AudioMalformed("The FLAC header is damaged.")
        self._decoder = open_flac(streaminfo, self._limits)
        self.init_segment = magic + bytes([0x80]) + head[1:] + streaminfo
        while not head[0] & 0x80:
            head = yield 4
            yield from self._skip(int.from_bytes(head[1:]))
        while True:
            self._pass(self._decoder, self._decoder.split((yield -self._limits.max_whole_bytes)))

    def _pass(self, decoder: PyavDecoder, packets: list[bytes]) -> None:
        self._pcm.extend(decoder.decode(packet, len(packet)) for packet in packets)


def _sniff_frames(read: ReadFrame, labels: tuple[str, ...]) -> Callable[[bytes, StreamFormat], bool | None]:
    """Recognises frames: one, if the label says so, or two anywhere after that; else three in a row."""

    def sniff(head: bytes, declared: StreamFormat) -> bool | None:
        count, ended = frames_in_a_row(head, 0, read, 3)
        if declared.media_type in labels:
            if count:
                return True
            starts = (sync.start() for sync in _SYNC.finditer(head, 1))
            if any(frames_in_a_row(head, pos, read, 2)[0] == 2 for pos in starts):
                return True
            return None if len(head) < SNIFF_BYTES else False
        if count >= 3:
            return True
        return False if ended or not b"\xff".startswith(head[:1]) else None

    return sniff


def _sniff_mp3(head: bytes, declared: StreamFormat) -> bool | None:
    """An ID3 tag or frames."""
    if len(head) >= _ID3_HEAD and id3_bytes(head) is not None:
        return True
    if len(head) < _ID3_HEAD and b"ID3".startswith(head[:3]):
        return None
    return _sniff_mp3_frames(head, declared)


_MP3_TYPES, _MP3_LABELS = ("audio/mpeg", "audio/mp3", "audio/x-mp3"), ("mpeg",)
_AAC_TYPES, _AAC_LABELS = ("audio/aac", "audio/aacp", "audio/x-aac", "audio/x-hx-aac-adts"), ("adts",)
_sniff_mp3_frames = _sniff_frames(mp3_frame, ("mp3", *_MP3_TYPES, *_MP3_LABELS))


@hookimpl(trylast=True)
def tornado_live_codecs() -> list[Codec]:
    return [
        Codec(
            name="flac",
            summary="FLAC without a container",
            mime_types=("audio/flac", "audio/x-flac"),
            sniff=begins_with(_FLAC_MAGIC),
            open=lambda declared, limits: FlacDecoder(limits),
            engine="PyAV",
        ),
        Codec(
            name="mp3",
            summary="MP3, with or without tags",
            mime_types=_MP3_TYPES,
            sniff=_sniff_mp3,
            open=lambda declared, limits: Mp3Decoder(limits),
            labels=_MP3_LABELS,
            weak_magic=True,
            engine="PyAV",
        ),
        Codec(
            name="aac",
            summary="AAC in ADTS frames",
            mime_types=_AAC_TYPES,
            sniff=_sniff_frames(adts_frame, ("aac", *_AAC_TYPES, *_AAC_LABELS)),
            open=lambda declared, limits: _FrameDecoder("aac", adts_frame, limits),
            labels=_AAC_LABELS,
            weak_magic=True,
            engine="PyAV",
        ),
    ]
