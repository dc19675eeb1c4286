"""Ogg: Opus as Firefox records it; Vorbis and FLAC through PyAV."""

from __future__ import annotations

from tornado_live import hookimpl
from tornado_live.audio import TARGET, Codec, DecodeLimits, StreamInfo, begins_with
from tornado_live.errors import AudioMalformed

from ._flac import STREAMINFO_BYTES, open_flac
from ._ogg import MAGIC, OggDemuxer, OggPage
from ._opus import OpusHead, open_opus
from ._pyav import Findings, PacketDecoder, PyavDecoder, check_sound

_OPUS, _OPUS_TAGS = b"OpusHead", b"OpusTags"
_VORBIS, _VORBIS_COMMENT, _VORBIS_SETUP = b"\x01vorbis", b"\x03vorbis", b"\x05vorbis"
_FLAC, _FLAC_FRAME = b"\x7fFLAC", b"\xff"
_NO_COMMENT = _VORBIS_COMMENT + bytes(8) + b"\1"


class OggDecoder:
    """See `tornado_live.audio.AudioDecoder`. The first page of another stream begins it anew."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.init_segment = b""
        self._limits = limits
        self._findings = Findings("ogg")
        self._demuxer = OggDemuxer(limits, lambda first: first.startswith((_OPUS, _VORBIS, _FLAC)))
        self._head = b""
        self._header_pages = b""
        self._packets: PacketDecoder | None = None
        self._pre_skip = 0
        self._start: int | None = None
        self._end: int | None = None
        self._passed = 0

    @property
    def info(self) -> StreamInfo | None:
        return self._findings.of(self._packets, self._demuxer.lost_bytes)

    def decode(self, data: bytes) -> bytes:
        return b"".join(map(self._page, self._demuxer.feed(data)))

    def flush(self) -> bytes:
        return b"" if self._packets is None else self._up_to_end(self._packets.flush())

    def _page(self, page: OggPage) -> bytes:
        held = b""
        if page.begins:
            held = self.flush()
            self._begin(page.packets[0])
        if self._packets is None or not self.init_segment:
            self._header_pages += page.raw
        audio = [packet for packet in page.packets if not self._is_header(packet)]
        if self._packets is None:
            if audio:
                raise AudioMalformed("The Ogg stream's audio begins before its header is complete.")
            return held
        if not self.init_segment and len(self._header_pages) <= self._limits.max_header_bytes:
            self.init_segment = self._header_pages
        pcm = []
        overhead = page.encoded_bytes - sum(map(len, audio))
        for packet in audio:
            pcm.append(self._packets.decode(packet, len(packet) + overhead))
            overhead = 0
        if audio and page.granule >= 0:
            self._take_times(page, self._packets)
        return held + self._up_to_end(b"".join(pcm))

    def _begin(self, head: bytes) -> None:
        """Takes the packet that begins a stream (RFC 7845, 5.1; Vorbis I, 4.2.2; RFC 9639, 10.1)."""
        self._head, self._header_pages, self.init_segment = head, b"", b""
        self._packets, self._start, self._end, self._passed = None, None, None, 0
        self._pre_skip = 0
        if head.startswith(_OPUS):
            opus = OpusHead.parse(head)
            self._pre_skip = opus.pre_skip
            self._packets = open_opus(opus, self._limits)
        elif head.startswith(_FLAC):
            self._packets = open_flac(head[17 : 17 + STREAMINFO_BYTES], self._limits)

    def _is_header(self, packet: bytes) -> bool:
        """Whether the packet is set-up and no audio; the last of them makes the decoder."""
        if packet is self._head:
            return True
        if self._head.startswith(_OPUS):
            return packet.startswith(_OPUS_TAGS)
        if self._head.startswith(_FLAC):
            return not packet.startswith(_FLAC_FRAME)
        if packet.startswith(_VORBIS_SETUP) and self._packets is None:
            self._packets = _open_vorbis(self._head, packet, self._limits)
        return bool(packet[0] & 1)

    def _take_times(self, page: OggPage, packets: PacketDecoder) -> None:
        """Finds where the stream starts and, on its last page, where it ends (RFC 7845, 4.2 to 4.4)."""
        if self._start is None:
            self._start = 0 if page.ends else max(0, page.granule - packets.decoded_samples)
        if page.ends:
            samples = max(0, page.granule - self._start - self._pre_skip)
            self._end = -(-samples * TARGET.rate_hz // packets.rate_hz)

    def _up_to_end(self, pcm: bytes) -> bytes:
        if self._end is not None:
            pcm = pcm[: max(0, 2 * (self._end - self._passed))]
        self._passed += len(pcm) // 2
        return pcm


def _open_vorbis(head: bytes, setup: bytes, limits: DecodeLimits) -> PacketDecoder:
    if len(head) < 30:
        raise AudioMalformed("The Vorbis header is damaged.")
    channels, rate_hz = head[11], int.from_bytes(head[12:16], "little")
    check_sound(rate_hz, channels, limits)
    extradata = bytes([2, len(head), len(_NO_COMMENT)]) + head + _NO_COMMENT + setup
    return PyavDecoder("vorbis", extradata, rate_hz, channels, limits)


@hookimpl(trylast=True)
def tornado_live_codecs() -> list[Codec]:
    return [
        Codec(
            name="ogg",
            summary="Ogg: Opus; Vorbis, FLAC",
            mime_types=("audio/ogg", "application/ogg", "video/ogg", "audio/opus"),
            sniff=begins_with(MAGIC),
            open=lambda declared, limits: OggDecoder(limits),
            labels=("opus", "oga", "ogv"),
            engine="libopus",
        )
    ]
