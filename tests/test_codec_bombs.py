"""Bombs and bad input: whatever is sent, it costs at most 50 ms of CPU time and 64 MiB.

Each is fed to the codec that the registry chooses for it, under the default limits, in chunks of 1 MiB
and of 256 bytes, in a process of its own. To see the figures:

    python tests/test_codec_bombs.py
"""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import random
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import test_codec_mp4 as mp4
import test_codec_wav as riff
import test_codec_webm as webm
from codec_kit import decoded, pieces, recording, registry
from test_codec_mp4 import box, moof
from test_codec_webm import DTX, SILENCE, block, element, opus_head, track

from tornado_live.audio import DecodeLimits, StreamFormat
from tornado_live.errors import (
    AudioBomb,
    AudioHeaderMissing,
    AudioMalformed,
    LiveError,
    UnsupportedAudio,
)
from tornado_live.guard import GuardedDecoder

MAX_CPU_S = 0.050
MAX_GROWTH_BYTES = 64 * 2**20
CUTS = (2**20, 256)
ROUNDS = 5
"""At most, until one stays below `MAX_CPU_S`: neighbours on the same machine cost time, too."""
DEADLINE_S = 20.0

NOISE = random.Random(5).randbytes(2**20)
MP3 = 30 * (b"\xff\xfb\x90\x64" + bytes(413))
MP3_SAMPLES = -(-30 * 1152 * 16_000 // 44_100)
AAC = 30 * (bytes.fromhex("fff15040081ffc") + bytes(57))
FLAC = b"fLaC\x80\0\0\x22" + struct.pack(">HH6xQ16x", 4096, 4096, 44_100 << 44 | 15 << 36)
FTYP = box(b"ftyp", b"isom" + bytes(4))


@dataclass(frozen=True)
class Bomb:
    """What is sent, and what becomes of it.

    Attributes:
        ends: the error, or how many bytes of PCM come out.
        label: `format` as the client declares it.
    """

    stream: bytes
    ends: type[LiveError] | int
    label: str = ""
    limits: DecodeLimits = DecodeLimits()


def wav(**fields: int) -> bytes:
    return riff.wav(riff.fmt(**fields), riff.chunk(b"data", bytes(400_000)))


def blocks(payload: bytes, count: int, flags: int = 0x80) -> bytes:
    return webm.header() + b"".join(block(payload, i, flags) for i in range(count))


def mp4_file(samples: int) -> bytes:
    """An AAC file that claims so many samples, all of one size: FFmpeg makes an index of them all."""

    def table(kind: bytes, *fields: int) -> bytes:
        return box(kind, struct.pack(f">I{len(fields)}I", 0, *fields))

    entry = box(b"mp4a", struct.pack(">6xH8xHH4xI", 1, 1, 16, 16_000 << 16))
    described = box(b"stsd", struct.pack(">II", 0, 1) + entry) + table(b"stts", 1, samples, 1024)
    listed = table(b"stsc", 1, 1, samples, 1) + table(b"stsz", 0xDE00, samples) + table(b"stco", 1, 0)
    stbl = box(b"minf", box(b"stbl", described + listed))
    hdlr = box(b"hdlr", struct.pack(">II4s13x", 0, 0, b"soun"))
    mdia = box(b"mdia", table(b"mdhd", 0, 0, 16_000, 0, 0) + hdlr + stbl)
    return FTYP + box(b"moov", box(b"trak", mdia)) + box(b"mdat", bytes(1000))


EBML_LACE = b"\xff\x82" + b"\xbf" * 254 + 256 * DTX
"""256 frames of 2 bytes."""

FALSE_BLOCKS = b"\xa3\x84\x81\0" * 32_000
FALSE_LACES = b"\xa3\x40\xff\x81\0\0\x82\xfe" * 16_000
FALSE_PAGES = (b"OggS\0" + b"\xff" * 22) * 5_000

NESTED = bytes.fromhex("1F43B675 01FFFFFFFFFFFFFF") * 20_000
BOMBS = {
    "2-byte packets of 120 ms": Bomb(blocks(DTX, 500), AudioBomb),
    "2-byte packets of 120 ms, laced": Bomb(blocks(EBML_LACE, 4, 0x86), AudioBomb),
    "empty frames, laced": Bomb(blocks(b"\xff" + bytes(255), 1, 0x82), 0),
    "empty blocks": Bomb(blocks(b"", 500), 0),
    "block of 2^50 bytes": Bomb(webm.header() + element(0xA3, b"\x81\0\0\x80", 2**50), AudioBomb),
    "EBML header of 2^40 bytes": Bomb(element(0x1A45DFA3, size=2**40), AudioBomb),
    "Void of 2^50 bytes": Bomb(element(0x1A45DFA3) + element(0xEC, size=2**50), AudioBomb),
    "Opus of 255 channels": Bomb(webm.header(track(private=opus_head(255))), UnsupportedAudio),
    "Opus of 255 channels, mapped": Bomb(
        webm.header(track(private=opus_head(255, 255) + bytes(range(255)))), UnsupportedAudio
    ),
    "Opus of 768 kHz": Bomb(webm.header(track(rate=768_000.0)) + block(SILENCE), 60 * webm.MS),
    "20,000 nested clusters": Bomb(webm.header() + NESTED, 0),
    "WAV of 1 Hz": Bomb(wav(rate_hz=1), UnsupportedAudio),
    "WAV of 2 GHz": Bomb(wav(rate_hz=2_000_000_000), UnsupportedAudio),
    "WAV of 0 Hz": Bomb(wav(rate_hz=0), UnsupportedAudio),
    "WAV of 65,535 channels": Bomb(wav(channels=65_535), AudioMalformed),
    "WAV of no channels": Bomb(wav(channels=0), UnsupportedAudio),
    "WAV of no bits": Bomb(wav(bits=0), UnsupportedAudio),
    "WAV of an unknown kind": Bomb(wav(tag=0x55), UnsupportedAudio),
    "MP3 that claims to be WebM": Bomb(MP3, 2 * MP3_SAMPLES, "webm"),
    "WAV that claims to be WebM": Bomb(wav(), 400_000, "webm"),
    "MP4 boxes of size 0": Bomb(mp4.header() + box(b"free", size=0) * 100_000, AudioMalformed),
    "MP4 fragments of size 0": Bomb(mp4.header() + box(b"moof", size=0) * 100_000, AudioMalformed),
    "MP4 that begins with a box of size 0": Bomb(box(b"ftyp", size=0) + NOISE, AudioMalformed, "mp4"),
    "MP4 fragment of 2^31 samples": Bomb(mp4.header() + moof([], count=2**31), AudioBomb),
    "MP4 file of 67 million samples": Bomb(mp4_file(2**26), AudioBomb),
    **{
        f"noise that claims to be {label}": Bomb(NOISE, AudioHeaderMissing, label)
        for label in ("webm", "ogg", "mp4", "m4a", "wav", "mp3", "aac", "flac")
    },
    "noise that claims nothing": Bomb(NOISE, UnsupportedAudio),
    "noise in WebM": Bomb(webm.header() + NOISE, AudioMalformed),
    "noise in Ogg": Bomb(b"".join(recording("ff_ogg_opus_250ms")[:4]) + NOISE, AudioMalformed),
    "false blocks in WebM": Bomb(blocks(SILENCE, 3) + 65 * b"\0" + FALSE_BLOCKS, AudioMalformed),
    "false laced blocks in WebM": Bomb(blocks(SILENCE, 3) + 65 * b"\0" + FALSE_LACES, AudioMalformed),
    "false pages in Ogg": Bomb(b"".join(recording("ff_ogg_opus_250ms")[:4]) + FALSE_PAGES, AudioMalformed),
    "noise in MP4": Bomb(mp4.header() + NOISE, AudioMalformed),
    "noise in an MP4 file": Bomb(FTYP + NOISE, AudioMalformed),
    "noise in MP3": Bomb(MP3 + NOISE, AudioMalformed),
    "noise in AAC": Bomb(AAC + NOISE, AudioMalformed),
    "noise in FLAC": Bomb(FLAC + NOISE, 0),
}

UNLIMITED = "laced packets without a limit"
UNLIMITED_BOMB = Bomb(
    blocks(EBML_LACE, 60, 0x86), 60 * 256 * 120 * webm.MS, limits=DecodeLimits(max_seconds_per_byte=1.0)
)
"""Shows that the measurement can see what the limits prevent."""


# Measuring


def fate(bomb: Bomb, cut: int) -> str:
    """Feeds the bomb as a server does; says how it ended."""
    declared = StreamFormat(bomb.label)
    head, pcm_bytes = b"", 0
    decoder: GuardedDecoder | None = None
    try:
        for piece in pieces(bomb.stream, cut):
            if decoder is None:
                head += piece
                codec = registry().recognise(head, declared, ended=len(head) == len(bomb.stream))
                if codec is None:
                    continue
                decoder, piece = registry().open(codec, declared, bomb.limits), head
            pcm_bytes += len(decoder.decode(piece))
        assert decoder is not None
        pcm_bytes += len(decoder.flush())
    except LiveError as exc:
        return type(exc).__name__
    return f"{pcm_bytes} bytes of PCM"


def measure(name: str, bomb: Bomb, cuts: Sequence[int]) -> None:
    """Prints what the bomb costs: CPU time at its worst cut, and the growth of the peak RSS."""
    for honest in ("webm_opus_250ms", "ff_ogg_opus_250ms", "mp4_opus_250ms", "webm_pcm_250ms"):
        decoded(b"".join(recording(honest)[:4]))
    fates, worst_s, before = set(), 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for cut in cuts:
        best_s = math.inf
        for _ in range(ROUNDS):
            began = time.process_time()
            fates.add(fate(bomb, cut))
            best_s = min(best_s, time.process_time() - began)
            if best_s <= MAX_CPU_S:
                break
        worst_s = max(worst_s, best_s)
    growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps({"name": name, "fates": sorted(fates), "cpu_s": worst_s, "growth_bytes": growth}))


def main() -> None:
    """Measures each bomb in a fork: libraries are loaded, and no thread runs yet."""
    fork = multiprocessing.get_context("fork")
    registry()
    for arguments in (
        *((name, bomb, CUTS) for name, bomb in BOMBS.items()),
        (UNLIMITED, UNLIMITED_BOMB, CUTS[:1]),
    ):
        process = fork.Process(target=measure, args=arguments)
        process.start()
        process.join(DEADLINE_S)
        process.kill()


@functools.cache
def measured() -> dict[str, dict[str, Any]]:
    """By name. What died or hung is missing."""
    lines = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {line["name"]: line for line in map(json.loads, lines)}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_named_and_costs_next_to_nothing(name: str) -> None:
    cost, ends = measured()[name], BOMBS[name].ends
    assert cost["fates"] == [f"{ends} bytes of PCM" if isinstance(ends, int) else ends.__name__]
    assert cost["cpu_s"] <= MAX_CPU_S
    assert cost["growth_bytes"] <= MAX_GROWTH_BYTES


def test_without_limits_a_bomb_costs_more() -> None:
    cost = measured()[UNLIMITED]
    assert cost["fates"] == [f"{UNLIMITED_BOMB.ends} bytes of PCM"]
    assert cost["cpu_s"] > MAX_CPU_S
    assert cost["growth_bytes"] > MAX_GROWTH_BYTES


if __name__ == "__main__":
    main()
