"""Fuzz targets, one per codec: whatever the bytes, a decoder gives PCM or raises `AudioError`.

Run one by hand, for as long as it takes, with libFuzzer's own options:

    python tests/fuzz/codecs.py webm -max_total_time=60 -seed=1 tests/fuzz/corpus/webm
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["tornado_live_codecs"]):
    from tornado_live_codecs import _ogg, compressed, mp4, ogg, pcm, wav, webm

from tornado_live.audio import DecodeLimits, StreamFormat
from tornado_live.errors import AudioError

CODECS = {
    codec.name: codec
    for module in (compressed, mp4, ogg, pcm, wav, webm)
    for codec in module.tornado_live_codecs()
}

LIMITS = DecodeLimits(max_whole_seconds=30.0)
CUTS = (1, 7, 64, 960, 1 << 20)
MAX_PCM_BYTES = 64 * 2**20

PCM_LABELS = ("s16le", "s24le", "f32le", "f64le", "u8", "mulaw", "alaw", "audio/l16")
RATES_HZ = (8_000, 16_000, 44_100, 192_000)


def target(name: str) -> Callable[[bytes], None]:
    """The function to fuzz: its first two bytes choose the cut, label, rate and channels."""
    codec = CODECS[name]

    def run(data: bytes) -> None:
        if len(data) < 3:
            return
        cut = CUTS[data[0] % len(CUTS)]
        label = PCM_LABELS[data[0] >> 4 & 7] if name == "pcm" else name
        declared = StreamFormat(label, RATES_HZ[data[1] & 3], data[1] >> 4)
        stream = data[2:]
        if name == "ogg" and data[1] & 1:
            stream = _with_right_checksums(stream)
        pcm_bytes = 0
        try:
            if name != "pcm":
                codec.sniff(stream, declared)
            decoder = codec.open(declared, LIMITS)
            for i in range(0, len(stream), cut):
                pcm_bytes += len(_checked(decoder.decode(stream[i : i + cut])))
                assert decoder.info is None or decoder.info.lost_bytes <= 2 * len(stream)
            pcm_bytes += len(_checked(decoder.flush()))
        except AudioError:
            pass
        assert pcm_bytes <= MAX_PCM_BYTES

    return run


def _with_right_checksums(stream: bytes) -> bytes:
    """So that what lies behind the checksum is reached, too."""
    mended, pos = bytearray(stream), 0
    while (pos := stream.find(_ogg.MAGIC, pos)) >= 0:
        end = _ogg.page_end(stream, pos)
        if end <= len(stream):
            mended[pos + 22 : pos + 26] = _ogg.checksum(bytes(mended[pos:end]))
        pos += len(_ogg.MAGIC)
    return bytes(mended)


def _checked(pcm: bytes) -> bytes:
    assert isinstance(pcm, bytes)
    assert len(pcm) % 2 == 0
    return pcm


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target(sys.argv[1]))
    atheris.Fuzz()
