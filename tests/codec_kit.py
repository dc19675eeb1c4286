"""Audio in every format, and what the ffmpeg command makes of it: the yardstick of the codec tests."""

from __future__ import annotations

import array
import functools
import math
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tornado_live.audio import DecodeLimits, StreamFormat
from tornado_live.errors import LiveError
from tornado_live.guard import GuardedDecoder
from tornado_live.plugins import CodecRegistry

DATA = Path(__file__).parent / "data"
JFK = DATA / "speech" / "jfk.wav"


@functools.cache
def registry() -> CodecRegistry:
    return CodecRegistry.load()


def recording(name: str) -> list[bytes]:
    """The chunks of a real recording, as the browser delivered them."""
    return [file.read_bytes() for file in sorted((DATA / "recordings" / name).glob("*.bin"))]


@functools.cache
def encoded(suffix: str, *options: str, seconds: float = 1.0) -> bytes:
    """Speech, encoded by the ffmpeg command into the container that `suffix` names."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"speech.{suffix}"
        _ffmpeg("-t", str(seconds), "-i", str(JFK), *options, str(file))
        return file.read_bytes()


@functools.cache
def reference(data: bytes, *input_options: str) -> bytes:
    """What the ffmpeg command decodes from a whole file: 16 kHz, mono, s16le."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return _ffmpeg(*input_options, "-i", file.name, "-f", "s16le", "-ar", "16000", "-ac", "1", "pipe:")


def _ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def opened(
    head: bytes, label: str = "", rate_hz: int = 16_000, channels: int = 1, limits: DecodeLimits | None = None
) -> GuardedDecoder:
    """The decoder that the registry chooses for a stream that begins with `head`."""
    declared = StreamFormat(label, rate_hz, channels)
    codec = registry().recognise(head, declared, ended=True)
    assert codec is not None
    return registry().open(codec, declared, limits or DecodeLimits())


def fed(decoder: GuardedDecoder, chunks: Iterable[bytes]) -> bytes:
    """The PCM of all the chunks and of the end of the stream."""
    return b"".join([*map(decoder.decode, chunks), decoder.flush()])


def fed_until_error(decoder: GuardedDecoder, chunks: Iterable[bytes], error: type[LiveError]) -> bytes:
    """The PCM that came out before the error, which has to come."""
    pcm = []
    try:
        pcm.extend(map(decoder.decode, chunks))
    except error:
        return b"".join(pcm)
    raise AssertionError(f"{error.__name__} was not raised")


def decoded(data: bytes, label: str = "", rate_hz: int = 16_000, channels: int = 1) -> bytes:
    """The PCM of a whole stream, fed at once."""
    return fed(opened(data, label, rate_hz, channels), [data])


def likeness_db(ours: bytes, theirs: bytes, max_lag: int = 4) -> float:
    """Signal to noise ratio of up to three seconds, at the lag where it is best.

    Decoders differ by a few samples of delay: FFmpeg's own Opus decoder is 2 samples (at 48 kHz) early.
    """
    a, b = array.array("h", ours), array.array("h", theirs)
    window = a[max_lag : min(len(a), len(b), 48_000) - max_lag]
    signal = sum(x * x for x in window)
    assert signal, "there is nothing to compare"
    noise = min(
        sum((x - y) ** 2 for x, y in zip(window, b[max_lag + lag :], strict=False))
        for lag in range(-max_lag, max_lag + 1)
    )
    return 10 * math.log10(signal / noise) if noise else math.inf
