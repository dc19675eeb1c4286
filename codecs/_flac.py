"""FLAC's set-up (RFC 9639, section 8.2), which every container carries in its own wrapping."""

from __future__ import annotations

from dataclasses import replace

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioMalformed

from ._pyav import PyavDecoder, check_sound

STREAMINFO_BYTES = 34

SILENCE_FACTOR = 10
"""A frame of digital silence takes 14 bytes, whatever its length: more seconds a byte than Opus."""


def open_flac(streaminfo: bytes, limits: DecodeLimits) -> PyavDecoder:
    """A decoder of FLAC frames.

    Raises:
        AudioMalformed: that is no STREAMINFO block.
        UnsupportedAudio: a rate or channel count outside the limits.
    """
    if len(streaminfo) != STREAMINFO_BYTES:
        raise AudioMalformed("The FLAC header is damaged.")
    rate_hz = int.from_bytes(streaminfo[10:13]) >> 4
    channels = (streaminfo[12] >> 1 & 7) + 1
    check_sound(rate_hz, channels, limits)
    wider = replace(limits, max_seconds_per_byte=SILENCE_FACTOR * limits.max_seconds_per_byte)
    return PyavDecoder("flac", streaminfo, rate_hz, channels, wider)
