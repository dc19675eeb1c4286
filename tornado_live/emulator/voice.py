"""Text to speech: eSpeak NG in a subprocess, or tones. All speech is 24 kHz, s16le, mono."""

from __future__ import annotations

import array
import asyncio
import importlib.util
import json
import math
import re
import sys
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tornado_live.emulator.options import VoiceChoice
from tornado_live.emulator.resample import Resampler

RATE_HZ = 24_000


@dataclass(frozen=True, slots=True)
class Spoken:
    """One sentence, or a part of one, and its sound."""

    text: str
    pcm: bytes


class Voice(Protocol):
    """What speaks. One per emulator, shared by its connections."""

    name: str

    async def ready(self) -> None:
        """Returns when it can speak. Raises RuntimeError where it never will."""

    def speak(self, text: str) -> AsyncIterator[Spoken]:
        """The text, sentence by sentence; the texts joined are the whole."""

    async def close(self) -> None:
        """Ends the subprocess, if there is one."""


def sentences(text: str) -> list[str]:
    """Cuts after sentences, and long ones after words, so that speech can begin before all of it is made."""
    return [piece for sentence in re.findall(r".+?(?:[.!?]+\s+|$)", text, re.S) for piece in _wrap(sentence)]


def _wrap(sentence: str) -> list[str]:
    return re.findall(r".{1,200}(?:\s+|$)|.{1,200}", sentence, re.S)


class ToneVoice:
    """A tone a word, 60 ms a character: deterministic, for load and fault runs."""

    name = "tones"

    async def ready(self) -> None:
        pass

    async def speak(self, text: str) -> AsyncIterator[Spoken]:
        for sentence in sentences(text):
            yield Spoken(sentence, b"".join(map(_beep, sentence.split())))

    async def close(self) -> None:
        pass


def _beep(word: str) -> bytes:
    """The word's own pitch, then a short gap. Whole periods: nothing clicks and nothing is computed twice."""
    period = (100, 96, 80, 75, 64, 60, 50, 48)[zlib.crc32(word.lower().encode()) % 8]
    wave = array.array("h", (round(6000 * math.sin(2 * math.pi * at / period)) for at in range(period)))
    return wave.tobytes() * (len(word) * 1440 // period) + bytes(2 * 960)


class EspeakVoice:
    """eSpeak NG (`espeakng-loader`) at its 22,050 Hz, resampled."""

    name = "eSpeak NG"

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._rate_hz = 0
        self._one_at_a_time = asyncio.Lock()
        self._requests: set[asyncio.Task[bytes]] = set()

    async def ready(self) -> None:
        async with self._one_at_a_time:
            await self._started()

    async def speak(self, text: str) -> AsyncIterator[Spoken]:
        for sentence in sentences(text):
            request = asyncio.create_task(self._synthesise(sentence))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
            # A request goes on when its caller is cancelled: the next one would read the rest of its answer.
            pcm = await asyncio.shield(request)
            resampler = Resampler(self._rate_hz, RATE_HZ)
            yield Spoken(sentence, resampler.process(pcm) + resampler.flush())

    async def _synthesise(self, text: str) -> bytes:
        async with self._one_at_a_time:
            process = await self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(text).encode() + b"\n")
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(8), "big")
            return await process.stdout.readexactly(size)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            worker = str(Path(__file__).with_name("espeak_worker.py"))
            # -P: the worker's folder must not shadow the standard library.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", worker, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert self._process.stdout is not None
            try:
                self._rate_hz = int.from_bytes(await self._process.stdout.readexactly(4), "big")
            except asyncio.IncompleteReadError as error:
                raise RuntimeError("The eSpeak NG worker ended before it could speak.") from error
        return self._process

    async def close(self) -> None:
        await asyncio.gather(*self._requests, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


def choose_voice(choice: VoiceChoice) -> Voice:
    """
    Raises:
        ValueError: eSpeak NG is asked for and not installed.
    """
    installed = all(importlib.util.find_spec(name) for name in ("espeakng_loader", "numpy"))
    if choice == "espeak" and not installed:
        raise ValueError(
            "The voice needs the offline extra, which is not installed: pip install 'tornado-live[offline]'"
        )
    return EspeakVoice() if installed and choice != "tone" else ToneVoice()
