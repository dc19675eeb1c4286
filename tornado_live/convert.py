"""A recording from a file to a WAV file, through the very decoders that the server uses."""

from __future__ import annotations

import shutil
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tornado_live.audio import SNIFF_BYTES, TARGET, DecodeLimits, StreamFormat, StreamInfo
from tornado_live.errors import EmptyAudio, UnsupportedAudio
from tornado_live.guard import GuardedDecoder
from tornado_live.plugins import CodecRegistry

PIECE_BYTES = 64 * 1024

OWN_FILES = DecodeLimits(
    max_block_bytes=2**24, max_pending_bytes=2**25, max_whole_bytes=2**30, max_whole_seconds=4 * 3600.0
)
"""What a file of one's own may be: recorders make no larger blocks than the server takes, studios do."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of it.

    Attributes:
        codec: the name of the codec that took the file.
        info: what it found in it.
        seconds: length of the audio.
    """

    codec: str
    info: StreamInfo | None
    seconds: float


def convert(
    in_path: str,
    out_path: str,
    registry: CodecRegistry,
    on_progress: Callable[[int], None],
    *,
    declared: StreamFormat | None = None,
    limits: DecodeLimits | None = None,
) -> Converted:
    """Decodes a file to a WAV file: 16 kHz, mono, 16 bits.

    Args:
        in_path: any audio that the codecs take; `-` is standard input.
        out_path: what to write; replaced when all is decoded. `-` is standard output, which gets the
            whole at the end.
        on_progress: told how many more bytes have been read, again and again.
        declared: what the file is, for audio without a header; by default its name's ending says so.
        limits: by default `OWN_FILES`.

    Raises:
        LiveError: the audio cannot be decoded; `out_path` is as it was, nothing is sent to standard output.
        OSError: a file cannot be read or written.
    """
    declared = declared or StreamFormat(Path(in_path).suffix.lstrip(".").lower())
    with nullcontext(sys.stdin.buffer) if in_path == "-" else open(in_path, "rb") as source:
        head = source.read(SNIFF_BYTES)
        decoder = _opened(head, declared, registry, limits or OWN_FILES)
        on_progress(len(head))
        with _output(out_path) as file, wave.open(file, "wb") as target:
            target.setparams((TARGET.channels, 2, TARGET.rate_hz, 0, "NONE", "not compressed"))
            for pcm in _decoded(decoder, head, source, on_progress):
                target.writeframesraw(pcm)
            seconds = target.tell() / TARGET.rate_hz
    return Converted(decoder.codec.name, decoder.info, seconds)


@contextmanager
def _output(out_path: str) -> Iterator[BinaryIO]:
    """A file to write and seek in: the header of a WAV file says how long the rest is."""
    if out_path == "-":
        with tempfile.TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    target = Path(out_path)
    if target.exists() and not target.is_file():  # a device or a pipe
        with target.open("wb") as file:
            yield file
        return
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _opened(
    head: bytes, declared: StreamFormat, registry: CodecRegistry, limits: DecodeLimits
) -> GuardedDecoder:
    if not head:
        raise EmptyAudio("The file is empty.")
    codec = registry.recognise(head, declared, ended=True)
    if codec is None:
        raise UnsupportedAudio
    return registry.open(codec, declared, limits)


def _decoded(
    decoder: GuardedDecoder, head: bytes, source: BinaryIO, on_progress: Callable[[int], None]
) -> Iterator[bytes]:
    yield decoder.decode(head)
    while piece := source.read(PIECE_BYTES):
        yield decoder.decode(piece)
        on_progress(len(piece))
    yield decoder.flush()
