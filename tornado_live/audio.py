"""The words that the core and the codec plugins share. Nothing here does I/O.

All decoders end at `TARGET`: signed 16-bit little-endian, 16,000 samples a second, one channel,
which is what Gemini Live takes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from tornado_live.errors import AudioBomb

SampleEncoding = Literal["s16le", "s24le", "s32le", "f32le", "f64le", "u8", "mulaw", "alaw"]

BYTES_PER_SAMPLE: dict[SampleEncoding, int] = {
    "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8, "u8": 1, "mulaw": 1, "alaw": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Raw samples, channels interleaved."""

    encoding: SampleEncoding = "s16le"
    rate_hz: int = 16_000
    channels: int = 1

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of every channel."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels

    def seconds(self, size_bytes: int) -> float:
        return size_bytes / (self.bytes_per_frame * self.rate_hz)


TARGET = PcmFormat("s16le", 16_000, 1)
"""What every decoder returns and what goes upstream."""

REPLY = PcmFormat("s16le", 24_000, 1)
"""What Gemini Live speaks."""

_LOUD_PEAK = 400
"""-38 dBFS: speech near a microphone is above it, a quiet room below."""
_LOUD_STEP = 32
"""A sample every 2 ms is enough to tell speech from a quiet room."""


def is_loud(pcm: bytes) -> bool:
    """Whether someone may be speaking in these `TARGET` samples. A hint, not voice activity detection."""
    samples = memoryview(pcm)[: len(pcm) & ~1].cast("h")[::_LOUD_STEP].tolist()
    return bool(samples) and (max(samples) >= _LOUD_PEAK or min(samples) <= -_LOUD_PEAK)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What the client says of a stream: a hint, except for headerless PCM, where it is all there is.

    Attributes:
        label: `format` as sent, lower case: a short name (`webm`) or a MIME type; empty if none.
        rate_hz: declared samples a second. Counts for headerless audio only.
        channels: declared channels. Counts for headerless audio only.
    """

    label: str = ""
    rate_hz: int = 16_000
    channels: int = 1

    @property
    def media_type(self) -> str:
        """The label without its parameters: `webm`, `audio/webm`."""
        return self.label.partition(";")[0].strip().lower()

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of a MIME type (RFC 2045, section 5.1): `{"codecs": "opus"}`."""
        pairs = (part.partition("=") for part in self.label.lower().split(";")[1:])
        return {name.strip(): value.strip().strip('"') for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a decoder found in a stream.

    Attributes:
        container: `webm`, `ogg`, `mp4`, `wav`, `raw`, …
        codec: `opus`, `aac`, `s16le`, …
        rate_hz: samples a second before resampling (48,000 for Opus, whatever the input was).
        channels: channels before mixing down.
        lost_bytes: bytes skipped so far because they fit nowhere: parts of the stream are missing,
            damaged or repeated.
    """

    container: str
    codec: str
    rate_hz: int
    channels: int
    lost_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What is checked before anything is decoded.

    Attributes:
        max_header_bytes: a container header, or one element of it, may be this large.
        max_block_bytes: one packet or block of audio may be this large (a legal Opus packet is at
            most 48 frames of 1,275 bytes).
        max_pending_bytes: what a decoder may hold of an element that has not arrived whole.
        max_whole_bytes: what a decoder of whole files may hold until the stream ends.
        max_whole_seconds: what a decoder of whole files may decode when the stream ends.
        max_seconds_per_byte: audio seconds that one encoded byte may stand for, on average over
            `averaging_bytes`.
        averaging_bytes: the window of that average.
        min_rate_hz, max_rate_hz, max_channels: what a header may declare.
    """

    max_header_bytes: int = 64 * 1024
    max_block_bytes: int = 64 * 1024
    max_pending_bytes: int = 128 * 1024
    max_whole_bytes: int = 50 * 1000 * 1000
    max_whole_seconds: float = 900.0
    max_seconds_per_byte: float = 0.01
    averaging_bytes: int = 4096
    min_rate_hz: int = 8_000
    max_rate_hz: int = 192_000
    max_channels: int = 8


@runtime_checkable
class AudioDecoder(Protocol):
    """One stream's decoder: bytes in, PCM out at once. Made by a `Codec`, used by one session.

    Calls are never concurrent. After an `AudioError` the decoder is dropped.
    """

    @property
    def info(self) -> StreamInfo | None:
        """What the stream holds; None until its header has been read."""

    @property
    def init_segment(self) -> bytes:
        """The header bytes that make a later part of the stream decodable; empty if there are none."""

    def decode(self, data: bytes) -> bytes:
        """Takes the next bytes of the stream, cut anywhere, and returns `TARGET` PCM, maybe none.

        Raises:
            AudioError: the bytes cannot be decoded.
        """

    def flush(self) -> bytes:
        """Returns the PCM still held. The stream is over: nothing may be called afterwards.

        Raises:
            AudioError: the stream cannot be decoded.
        """


SNIFF_BYTES = 8192
"""A `Sniff` is shown so many bytes at most, and must have made up its mind by then: None counts as False."""

Sniff = Callable[[bytes, StreamFormat], bool | None]
"""Given the first bytes of a stream: True = mine, False = not mine, None = more bytes are needed."""


def begins_with(magic: bytes) -> Sniff:
    """A `Sniff` for streams that always begin with the same bytes."""

    def sniff(head: bytes, declared: StreamFormat) -> bool | None:
        if len(head) < len(magic):
            return None if magic.startswith(head) else False
        return head.startswith(magic)

    return sniff


OpenDecoder = Callable[[StreamFormat, DecodeLimits], AudioDecoder]
"""Makes the decoder of one new stream. Raises AudioError where the declared format cannot be used."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One kind of audio that the server can take in: what a plugin returns.

    Attributes:
        name: unique short name, also the `format` clients send: `webm`.
        summary: one line for people.
        mime_types: MIME types without parameters, the first one the usual one.
        labels: further values of `format` that mean this codec.
        sniff: recognises the first bytes of a stream (`Sniff`).
        open: makes a decoder (`OpenDecoder`).
        headerless: the stream has no header; it is chosen by its label when no header is recognised,
            and `sniff` is never asked.
        weak_magic: the first bytes may occur by chance in other audio (a sync word); so it is asked
            after the others, never for a label that means headerless audio, and never begins a new
            stream in the middle of a session.
        blocking: one `decode` or `flush` may take longer than a few milliseconds, so it is called
            on a worker thread.
        engine: what decodes, for people: `libopus`, `PyAV`, `native`.
    """

    name: str
    summary: str
    mime_types: tuple[str, ...]
    sniff: Sniff
    open: OpenDecoder
    labels: tuple[str, ...] = ()
    headerless: bool = False
    weak_magic: bool = False
    blocking: bool = False
    engine: str = "native"


@dataclass(slots=True)
class ExpansionMeter:
    """Counts what packets claim to hold before they are decoded.

    An honest Opus recording holds 0.0003 s a byte at 24 kbit/s and 0.003 s a byte in digital
    silence; a bomb 0.01 to 0.06.
    """

    limits: DecodeLimits
    _bytes: int = field(default=0, init=False)
    _seconds: float = field(default=0.0, init=False)
    _least_allowance_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._least_allowance_s = self.limits.max_seconds_per_byte * self.limits.averaging_bytes

    def count(self, size_bytes: int, seconds: float) -> None:
        """Counts one packet of `size_bytes` that claims to last `seconds`.

        Raises:
            AudioBomb: the average is over `max_seconds_per_byte`.
        """
        self._bytes += size_bytes
        self._seconds += seconds
        if self._seconds > self._least_allowance_s and (
            self._seconds > self.limits.max_seconds_per_byte * self._bytes
        ):
            raise AudioBomb("The audio claims more seconds than its size can hold.")
        if self._bytes >= self.limits.averaging_bytes:
            self._bytes //= 2
            self._seconds /= 2
