"""Raw samples without a header: what an AudioWorklet, a telephone line or a `.pcm` file gives.

Labels:
    `pcm`, `s16le`, `s24le`, `s32le`, `f32le`, `f64le`, `u8`, `mulaw`, `alaw`: rate and channels as
    declared beside the label.
    `audio/pcm;rate=48000;encoding=f32le;channels=2`: parameters win over what is declared beside it.
    `audio/L16`, `audio/L24`: network byte order (RFC 2586, RFC 3190), unless the label says
    `endianness=little-endian`, or `codec=pcm`, by which Google's APIs mean little-endian.
    `audio/basic`, `audio/PCMU`, `audio/PCMA`: G.711 at 8,000 samples a second (RFC 2046, RFC 3551).
"""

from __future__ import annotations

from dataclasses import dataclass

from tornado_live import hookimpl
from tornado_live.audio import (
    BYTES_PER_SAMPLE,
    Codec,
    DecodeLimits,
    PcmFormat,
    SampleEncoding,
    StreamFormat,
    StreamInfo,
)
from tornado_live.errors import UnsupportedAudio

from ._samples import PcmConverter


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a label says by itself."""

    encoding: SampleEncoding = "s16le"
    big_endian: bool = False
    rate_hz: int | None = None


_MEANINGS: dict[str, _Meaning] = {
    **{name: _Meaning(name) for name in BYTES_PER_SAMPLE},
    "pcm": _Meaning(),
    "pcm16": _Meaning(),
    "linear16": _Meaning(),
    "audio/pcm": _Meaning(),
    "audio/raw": _Meaning(),
    "audio/x-raw": _Meaning(),
    "audio/l16": _Meaning(big_endian=True),
    "audio/l24": _Meaning("s24le", big_endian=True),
    "ulaw": _Meaning("mulaw"),
    "audio/basic": _Meaning("mulaw", rate_hz=8000),
    "audio/pcmu": _Meaning("mulaw", rate_hz=8000),
    "audio/pcma": _Meaning("alaw", rate_hz=8000),
}


class PcmDecoder:
    """See `tornado_live.audio.AudioDecoder`."""

    init_segment = b""

    def __init__(self, source: PcmFormat, limits: DecodeLimits, *, big_endian: bool = False) -> None:
        self._converter = PcmConverter(source, limits, big_endian=big_endian)
        self.info: StreamInfo | None = StreamInfo("raw", source.encoding, source.rate_hz, source.channels)
        self.decode = self._converter.process
        self.flush = self._converter.flush


def open_decoder(declared: StreamFormat, limits: DecodeLimits) -> PcmDecoder:
    """Makes the decoder that the label asks for.

    Raises:
        UnsupportedAudio: an encoding, rate or channel count that is not supported.
    """
    meaning = _MEANINGS[declared.media_type]
    parameters = declared.parameters
    little_endian = parameters.get("endianness") == "little-endian" or parameters.get("codec") == "pcm"
    source = PcmFormat(
        _encoding(parameters.get("encoding"), meaning.encoding),
        _number(parameters, "rate", meaning.rate_hz or declared.rate_hz),
        _number(parameters, "channels", declared.channels),
    )
    return PcmDecoder(source, limits, big_endian=meaning.big_endian and not little_endian)


def _encoding(asked: str | None, default: SampleEncoding) -> SampleEncoding:
    if asked is None:
        return default
    if asked not in BYTES_PER_SAMPLE:
        known = ", ".join(BYTES_PER_SAMPLE)
        raise UnsupportedAudio(f"PCM of the encoding {asked!r} is not supported; {known} are.")
    return _MEANINGS[asked].encoding


def _number(parameters: dict[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UnsupportedAudio(f"The parameter {name} of the format is not a number.")
    return int(text)


def _never(head: bytes, declared: StreamFormat) -> bool:
    """Raw samples may look like anything, so they are only ever taken by their label."""
    return False


@hookimpl(trylast=True)
def tornado_live_codecs() -> list[Codec]:
    return [
        Codec(
            name="pcm",
            summary="Raw samples, interleaved: s16le, s24le, s32le, f32le, f64le, u8, mu-law, A-law",
            mime_types=tuple(label for label in _MEANINGS if "/" in label),
            sniff=_never,
            open=open_decoder,
            labels=tuple(label for label in _MEANINGS if "/" not in label),
            headerless=True,
        )
    ]
