"""Raw samples of any supported encoding to `TARGET` PCM, cut anywhere."""

from __future__ import annotations

import array
import math
from collections.abc import Callable

from tornado_live.audio import TARGET, DecodeLimits, PcmFormat

from ._pyav import Resampler, check_sound


class PcmConverter:
    """Interleaved samples in, 16 kHz mono out; bytes of an unfinished sample wait for the rest.

    Args:
        source: what comes in.
        limits: which rates and channel counts are accepted.
        big_endian: the bytes of each sample come in network order (RFC 2586).

    Raises:
        UnsupportedAudio: the rate or the channel count is outside the limits.
    """

    def __init__(self, source: PcmFormat, limits: DecodeLimits, *, big_endian: bool = False) -> None:
        check_sound(source.rate_hz, source.channels, limits)
        self.source = source
        sample_format, self._widen = _ENCODINGS[source.encoding]
        self._swap_bytes = source.bytes_per_frame // source.channels if big_endian else 1
        self._rest = b""
        self._resampler = None
        if (sample_format, source.rate_hz, source.channels) != ("s16", TARGET.rate_hz, TARGET.channels):
            self._resampler = Resampler(sample_format, source.rate_hz, source.channels)

    def process(self, data: bytes) -> bytes:
        """Takes the next bytes; returns the PCM that is ready."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        frames, rest = divmod(len(data), self.source.bytes_per_frame)
        if rest:
            data, self._rest = data[:-rest], data[-rest:]
        if not frames:
            return b""
        if self._swap_bytes > 1:
            data = _swapped(data, self._swap_bytes)
        if self._widen is not None:
            data = self._widen(data)
        return data if self._resampler is None else self._resampler.process(data, frames)

    def flush(self) -> bytes:
        """Returns what the resampler holds; bytes of an unfinished sample are dropped."""
        return b"" if self._resampler is None else self._resampler.flush()


def _swapped(data: bytes, width: int) -> bytes:
    swapped = bytearray(len(data))
    for i in range(width):
        swapped[i::width] = data[width - 1 - i :: width]
    return bytes(swapped)


def _s16_from_u8(data: bytes) -> bytes:
    wide = bytearray(2 * len(data))
    wide[1::2] = data.translate(_U8_TO_S8)
    return bytes(wide)


def _s32_from_s24(data: bytes) -> bytes:
    wide = bytearray(len(data) // 3 * 4)
    for i in range(3):
        wide[i + 1 :: 4] = data[i::3]
    return bytes(wide)


def _s16_from_table(low: bytes, high: bytes) -> Callable[[bytes], bytes]:
    def widen(data: bytes) -> bytes:
        wide = bytearray(2 * len(data))
        wide[0::2] = data.translate(low)
        wide[1::2] = data.translate(high)
        return bytes(wide)

    return widen


def _clipped(typecode: str) -> Callable[[bytes], bytes]:
    """FFmpeg clips what is a little over full scale but wraps what no 32-bit integer holds."""
    width = array.array(typecode).itemsize

    def clip(data: bytes) -> bytes:
        # The top byte is the sign and the upper exponent: below 0x40 the magnitude is below 2.
        if not data[width - 1 :: width].translate(None, _BELOW_TWO):
            return data
        values = array.array(typecode, data)
        limited = (0.0 if math.isnan(value) else max(-1.0, min(1.0, value)) for value in values)
        return array.array(typecode, limited).tobytes()

    return clip


def _mulaw_sample(code: int) -> int:
    """ITU-T G.711, mu-law, scaled to 16 bits."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw_sample(code: int) -> int:
    """ITU-T G.711, A-law, scaled to 16 bits."""
    code ^= 0x55
    segment = code >> 4 & 7
    magnitude = ((code & 0x0F) << 4) + 8
    if segment:
        magnitude = magnitude + 0x100 << segment - 1
    return magnitude if code & 0x80 else -magnitude


def _expansion(sample: Callable[[int], int]) -> Callable[[bytes], bytes]:
    words = [sample(code) & 0xFFFF for code in range(256)]
    return _s16_from_table(bytes(word & 0xFF for word in words), bytes(word >> 8 for word in words))


_U8_TO_S8 = bytes(code ^ 0x80 for code in range(256))
_BELOW_TWO = bytes(code for code in range(256) if code & 0x7F < 0x40)

_ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes] | None]] = {
    "s16le": ("s16", None),
    "s24le": ("s32", _s32_from_s24),
    "s32le": ("s32", None),
    "f32le": ("flt", _clipped("f")),
    "f64le": ("dbl", _clipped("d")),
    "u8": ("s16", _s16_from_u8),
    "mulaw": ("s16", _expansion(_mulaw_sample)),
    "alaw": ("s16", _expansion(_alaw_sample)),
}
"""FFmpeg's sample format, and what turns the encoding into it."""


class PcmPackets:
    """Raw samples that a container cuts into packets; see `PacketDecoder`. None can be damaged."""

    lost_bytes = 0

    def __init__(self, source: PcmFormat, limits: DecodeLimits) -> None:
        self.codec = source.encoding
        self.rate_hz = source.rate_hz
        self.channels = source.channels
        self.decoded_samples = 0
        self._frame_bytes = source.bytes_per_frame
        self._converter = PcmConverter(source, limits)

    def accepts(self, packet: bytes) -> bool:
        return len(packet) % self._frame_bytes == 0

    def decode(self, packet: bytes, encoded_bytes: int, discard: int = 0) -> bytes:
        self.decoded_samples += len(packet) // self._frame_bytes
        return self._converter.process(packet[: len(packet) - discard * self._frame_bytes])

    def flush(self) -> bytes:
        return self._converter.flush()
