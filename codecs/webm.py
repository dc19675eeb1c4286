"""WebM and Matroska: what Chromium's, Firefox's and Android's recorders send."""

from __future__ import annotations

from tornado_live import hookimpl
from tornado_live.audio import Codec, DecodeLimits, PcmFormat, SampleEncoding, StreamInfo, begins_with
from tornado_live.errors import UnsupportedAudio

from ._ebml import Track
from ._flac import STREAMINFO_BYTES, open_flac
from ._opus import OpusHead, open_opus
from ._pyav import Findings, PacketDecoder, PyavDecoder, check_sound
from ._samples import PcmPackets
from ._webm import WebmDemuxer

MAGIC = b"\x1a\x45\xdf\xa3"
"""The id of the EBML header (RFC 8794, section 11.2.1)."""

_PYAV_CODECS = {"A_VORBIS": "vorbis", "A_AAC": "aac", "A_MPEG/L3": "mp3"}
_INTEGERS: dict[int, SampleEncoding] = {16: "s16le", 24: "s24le", 32: "s32le"}
_FLOATS: dict[int, SampleEncoding] = {32: "f32le", 64: "f64le"}


class WebmDecoder:
    """See `tornado_live.audio.AudioDecoder`. A header in mid-stream begins a new stream."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._findings = Findings("webm")
        self._demuxer = WebmDemuxer(limits)
        self._packets: PacketDecoder | None = None

    @property
    def info(self) -> StreamInfo | None:
        return self._findings.of(self._packets, self._demuxer.lost_bytes)

    @property
    def init_segment(self) -> bytes:
        return self._demuxer.init_segment

    def decode(self, data: bytes) -> bytes:
        pcm = []
        for found in self._demuxer.feed(data):
            if isinstance(found, Track):
                pcm.append(self._begin(found))
            elif self._packets is not None:
                packet, encoded_bytes, discard_ns = found
                discard = max(0, discard_ns) * self._packets.rate_hz // 1_000_000_000 if discard_ns else 0
                pcm.append(self._packets.decode(packet, encoded_bytes, discard))
        return b"".join(pcm)

    def flush(self) -> bytes:
        return b"" if self._packets is None else self._packets.flush()

    def _begin(self, track: Track) -> bytes:
        """Makes the decoder of a new stream; returns what the one before still held."""
        held = self.flush()
        self._packets = _open_track(track, self._limits)
        self._demuxer.accepts = self._packets.accepts
        return held


def _open_track(track: Track, limits: DecodeLimits) -> PacketDecoder:
    """RFC 9559 and the Matroska codec mappings (draft-ietf-cellar-codec)."""
    if track.codec_id == "A_OPUS":
        head = OpusHead.parse(track.codec_private) if track.codec_private else OpusHead(track.channels)
        return open_opus(head, limits)
    encoding = {
        "A_PCM/INT/LIT": _INTEGERS,
        "A_PCM/FLOAT/IEEE": _FLOATS,
    }.get(track.codec_id, {}).get(track.bit_depth)  # fmt: skip
    if encoding is not None:
        return PcmPackets(PcmFormat(encoding, track.rate_hz, track.channels), limits)
    if track.codec_id == "A_FLAC":  # "fLaC", then metadata blocks, STREAMINFO the first
        return open_flac(track.codec_private[8 : 8 + STREAMINFO_BYTES], limits)
    if track.codec_id not in _PYAV_CODECS:
        raise UnsupportedAudio(f"WebM audio of the kind {track.codec_id!r} is not supported.")
    check_sound(track.rate_hz, track.channels, limits)
    codec = _PYAV_CODECS[track.codec_id]
    return PyavDecoder(codec, track.codec_private, track.rate_hz, track.channels, limits)


@hookimpl(trylast=True)
def tornado_live_codecs() -> list[Codec]:
    return [
        Codec(
            name="webm",
            summary="WebM and Matroska: Opus, PCM; Vorbis, FLAC, AAC, MP3",
            mime_types=("audio/webm", "video/webm", "audio/x-matroska", "video/x-matroska"),
            sniff=begins_with(MAGIC),
            open=lambda declared, limits: WebmDecoder(limits),
            labels=("mkv", "mka", "matroska"),
            engine="libopus",
        )
    ]
