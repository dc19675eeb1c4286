"""Ogg: Opus as Firefox records it; Vorbis and FLAC through PyAV."""

from __future__ import annotations

import dataclasses

from tornado_live import hookimpl
from tornado_live.audio import TARGET, Codec, DecodeLimits, StreamFormat, StreamInfo
from tornado_live.errors import AudioMalformed, UnsupportedAudio

from ._ogg import MAGIC, OggDemuxer, OggPage
from ._opus import OpusHead, open_opus, packet_samples
from ._pyav import PacketDecoder, PyavDecoder, check_sound, flac_decoder

_OPUS, _VORBIS, _FLAC = b"OpusHead", b"\x01vorbis", b"\x7fFLAC"
_EMPTY_VORBIS_COMMENT = b"\x03vorbis" + bytes(8) + b"\1"


class OggDecoder:
    """See `tornado_live.audio.AudioDecoder`. The first page of another stream begins it anew."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.init_segment = b""
        self._limits = limits
        self._demuxer = OggDemuxer(limits, _is_supported)
        self._headers: list[bytes] = []
        self._header_pages = b""
        self._packets: PacketDecoder | None = None
        self._begin_granule: int | None = None
        self._passed = 0
        self._end: int | None = None

    @property
    def info(self) -> StreamInfo | None:
        packets = self._packets
        if packets is None:
            return None
        lost_bytes = self._demuxer.lost_bytes + packets.lost_bytes
        return StreamInfo("ogg", packets.codec, packets.rate_hz, packets.channels, lost_bytes)
