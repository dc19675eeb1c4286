"""The plugin kit: it lets good codecs pass and names what is wrong with bad ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codec_kit import encoded, recording, registry

from tornado_live.audio import Codec, StreamFormat, StreamInfo
from tornado_live.testing import ContractBroken, codec_contract

EXAMPLE = Path(__file__).parents[1] / "examples" / "tornado-live-codec-amr"
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
STREAMS: dict[str, Callable[[], bytes]] = {
    "webm": lambda: b"".join(recording("webm_opus_250ms")[:4]),
    "ogg": lambda: encoded("ogg", "-c:a", "libopus"),
    "mp4": lambda: encoded("mp4", "-c:a", "aac", *FRAGMENTED),
    "m4a": lambda: encoded("m4a", "-c:a", "aac"),
    "wav": lambda: encoded("wav", "-ar", "8000"),
    "pcm": lambda: encoded("raw", "-f", "s16le", seconds=0.5),
    "mp3": lambda: encoded("mp3", "-c:a", "libmp3lame"),
    "aac": lambda: encoded("adts", "-c:a", "aac"),
    "flac": lambda: encoded("flac", "-c:a", "flac"),
}


def built_in(name: str) -> Codec:
    return next(loaded.codec for loaded in registry().codecs if loaded.codec.name == name)


def test_every_built_in_codec_is_covered() -> None:
    assert set(STREAMS) == {loaded.codec.name for loaded in registry().codecs if loaded.built_in}


@pytest.mark.parametrize("name", STREAMS)
def test_built_in_codec_keeps_the_contract(name: str) -> None:
    assert len(codec_contract(built_in(name), STREAMS[name]())) > 0


def sound(data: bytes) -> bytes:
    return bytes(byte for byte in data for _ in range(4))


class Doubling:
    """Takes every byte for two samples; the others break it in one way each."""

    info: object = StreamInfo("beep", "beep", 16_000, 1)
    init_segment: object = b""

    def decode(self, data: bytes) -> object:
        return sound(data)

    def flush(self) -> object:
        return b""


def codec(decoder: type = Doubling, **changes: Any) -> Codec:
    good = Codec("beep", "a test", (), sniff, lambda declared, limits: decoder())
    return replace(good, **changes)


def sniff(head: bytes, declared: StreamFormat) -> bool | None:
    return head.startswith(b"BEEP") if len(head) >= 4 else (None if b"BEEP".startswith(head) else False)


class Restless(Doubling):
    def decode(self, data: bytes) -> object:
        return data[: len(data) // 2 * 2]


class Shared(Doubling):
    calls = 0

    def decode(self, data: bytes) -> object:
        Shared.calls += 1
        return sound(data) if Shared.calls % 100 else 2 * data


class Fragile(Doubling):
    def decode(self, data: bytes) -> object:
        return sound(data.decode("ascii").encode())


class Nameless(Doubling):
    info = "beep"


class Mutable(Doubling):
    def decode(self, data: bytes) -> object:
        return bytearray(sound(data))


class Odd(Doubling):
    def decode(self, data: bytes) -> object:
        return data[:1] * 3


class Mute(Doubling):
    def decode(self, data: bytes) -> object:
        return bytes(4 * len(data))


class Unfinished:
    info = None

    def decode(self, data: bytes) -> bytes:
        return data


def picky(declared: StreamFormat, limits: object) -> Doubling:
    if declared.rate_hz <= 0:
        raise ValueError("rate")
    return Doubling()


STREAM = b"BEEP" + b"\1\2\3" * 3000


def test_good_codec_keeps_the_contract() -> None:
    assert codec_contract(codec(), STREAM) == sound(STREAM)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (codec(sniff=lambda head, declared: len(head) > 10), "refuses the first 1 bytes"),
        (codec(sniff=lambda head, declared: True), "takes a stream that begins with"),
        (codec(sniff=lambda head, declared: None), "does not recognise"),
        (codec(sniff=lambda head, declared: head.find(b"BEEP") == 0 and 1), "one of True, False, None"),
        (codec(Restless), "chunks of 1 bytes"),
        (codec(Shared), "other PCM|disturb"),
        (codec(Fragile), "not an AudioError"),
        (codec(Nameless), "info is a str"),
        (codec(Mutable), "bytearray, not bytes"),
        (codec(Odd), "whole number of samples"),
        (codec(Mute), "empty or silent"),
        (codec(Unfinished), "lacks members"),
        (codec(open=picky), "ValueError, not an AudioError"),
    ],
)
def test_broken_rule_is_named(broken: Codec, rule: str) -> None:
    with pytest.raises(ContractBroken, match=rule):
        codec_contract(broken, STREAM)


@pytest.mark.slow
def test_example_distribution_installs_and_passes_its_own_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(source)], check=True, timeout=50)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(source)]
    subprocess.run(tests, check=True, timeout=50, env={**os.environ, "PYTHONPATH": path}, cwd=source)
