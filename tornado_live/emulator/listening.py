"""One connection's ears: its audio in, spoken turns and guesses at them out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from tornado_live.emulator.ears import Ears, Script
from tornado_live.emulator.protocol import INVALID_ARGUMENT, ProtocolError
from tornado_live.emulator.resample import Resampler
from tornado_live.emulator.scenarios import Scenario
from tornado_live.emulator.schema import AutomaticActivityDetection, Blob
from tornado_live.emulator.turns import Turn
from tornado_live.emulator.vad import (
    RATE_HZ,
    ActivityConfig,
    ActivityEnded,
    ActivityStarted,
    Hearing,
    HearingEvent,
    Segment,
)

logger = logging.getLogger(__name__)

_SLICE_BYTES = 6400
"""Audio is listened to in slices of 200 ms, so that a minute in one message does not stop all other
connections."""
_GUESS_EVERY_S = 1.0
_GUESS_FROM_S = 0.8
_GUESS_UP_TO_S = 8.0


class Listener(Protocol):
    """Whom `Listening` tells what it hears."""

    def turn_started(self, turn: Turn, offset: int) -> None:
        """The user has begun to speak."""

    def turn_ended(self, turn: Turn, offset: int) -> None:
        """The user has stopped: an answer is owed. Some of the turn may still be with the recogniser."""

    def guessed(self, turn: Turn, text: str) -> None:
        """The words of the turn under way may be these."""


class Listening:
    """
    Args:
        note: writes into the journal: what, and more about it.
    """

    def __init__(
        self,
        ears: Ears,
        detection: AutomaticActivityDetection,
        scenario: Scenario,
        listener: Listener,
        note: Callable[..., None],
    ) -> None:
        self._ears = ears
        self._listener = listener
        self._note = note
        self._script = Script(scenario.script.utterances)
        self._ignore_short_s = scenario.stream.ignore_short_ms / 1000
        self._detector = ears.new_detector(detection.start_of_speech_sensitivity != "START_SENSITIVITY_LOW")
        self._hearing = Hearing(self._detector, _activity_config(detection, ears.default_end_ms))
        self._resamplers: dict[int, Resampler] = {}
        self._turn: Turn | None = None
        self._guess: asyncio.Task[None] | None = None
        self._next_guess = 0.0

    @property
    def turn(self) -> Turn | None:
        """The turn that the user is speaking, if any."""
        return self._turn

    @property
    def offset(self) -> int:
        """Samples heard so far, at 16 kHz."""
        return self._hearing.offset

    async def hear(self, blob: Blob, may_guess: bool) -> float:
        """Takes a piece of audio and returns its length in seconds.

        Returns late while the recogniser has more to do than it should: the sender is held back.

        Raises:
            ProtocolError: 1007, not raw PCM.
        """
        pcm = self._at_16_khz(blob)
        for start in range(0, len(pcm), _SLICE_BYTES):
            self._tell(self._hearing.feed(pcm[start : start + _SLICE_BYTES]))
            if len(pcm) > _SLICE_BYTES:
                await asyncio.sleep(0)
        if may_guess:
            self._maybe_guess()
        await self._ears.room(self._script)
        return len(pcm) / 2 / RATE_HZ

    def _at_16_khz(self, blob: Blob) -> bytes:
        rate_hz = blob.rate_hz
        if not blob.mime_type.startswith("audio/pcm") or not 4_000 <= rate_hz <= 192_000:
            raise ProtocolError(1007, INVALID_ARGUMENT)
        if rate_hz == RATE_HZ:
            return blob.data
        try:
            resampler = self._resamplers.setdefault(rate_hz, Resampler(rate_hz, RATE_HZ))
        except ImportError as error:
            raise ProtocolError(1007, "Without numpy the emulator takes audio at 16 kHz only.") from error
        return resampler.process(blob.data)

    def start_activity(self) -> None:
        """The client says that the user begins to speak."""
        if self._turn is not None:
            self._tell(self._hearing.end_activity())
        self._tell(self._hearing.start_activity())

    def end_activity(self) -> None:
        """The client says that the user has stopped, or that no more audio comes for now."""
        self._tell(self._hearing.end_activity())

    async def close(self) -> None:
        """Forgets what is being recognised."""
        work = [*(self._turn.recognised if self._turn else ()), *([self._guess] if self._guess else [])]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        self._ears.release(self._detector)

    def _tell(self, events: Sequence[HearingEvent]) -> None:
        for event in events:
            if isinstance(event, ActivityStarted):
                self._started(event)
            elif isinstance(event, Segment):
                self._recognise(event)
            else:
                self._ended(event)

    def _started(self, event: ActivityStarted) -> None:
        self._script.begin_utterance()
        self._turn = Turn(spoken=True)
        self._next_guess = asyncio.get_running_loop().time() + _GUESS_FROM_S
        self._note("activity_started", offset=event.offset)
        self._listener.turn_started(self._turn, event.offset)

    def _ended(self, event: ActivityEnded) -> None:
        turn, self._turn = self._turn, None
        self._note("activity_ended", offset=event.offset)
        if turn is not None:
            self._listener.turn_ended(turn, event.offset)

    def _recognise(self, segment: Segment) -> None:
        if self._turn is not None and segment.speech_s >= self._ignore_short_s:
            self._turn.recognised.append(asyncio.create_task(self._words_of(segment)))

    async def _words_of(self, segment: Segment) -> str:
        heard = await self._ears.recognise(segment, self._script)
        self._note(
            "recognised",
            ears=self._ears.name,
            text=heard.text,
            offset=segment.offset,
            samples=len(segment.pcm) // 2,
            speech_s=round(segment.speech_s, 3),
            words=[(word, segment.offset + at) for word, at in heard.words],
        )
        return heard.text

    def _maybe_guess(self) -> None:
        if self._turn is None or (self._guess is not None and not self._guess.done()):
            return
        pcm = self._hearing.open_segment()
        now = asyncio.get_running_loop().time()
        if now < self._next_guess or not _GUESS_FROM_S <= len(pcm) / 2 / RATE_HZ <= _GUESS_UP_TO_S:
            return
        self._guess = asyncio.create_task(self._guess_words(self._turn, pcm))

    async def _guess_words(self, turn: Turn, pcm: bytes) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            text = await self._ears.guess(pcm)
        except Exception:
            # A guess that fails is only a guess: the transcript comes, or fails, by itself.
            logger.exception("no guess at what is being said")
            text = None
        # A slow machine guesses less often: at most a third of the time goes into it.
        self._next_guess = clock() + max(_GUESS_EVERY_S, 2 * (clock() - started))
        if text and turn is self._turn:
            self._listener.guessed(turn, f"{turn.recognised_so_far()} {text}".strip())


def _activity_config(detection: AutomaticActivityDetection, default_end_ms: int) -> ActivityConfig:
    """Unset values: the start as Silero's authors set it, the end as suits the ears, later for low
    sensitivity."""
    low = detection.end_of_speech_sensitivity == "END_SENSITIVITY_LOW"
    start_ms, end_ms = detection.prefix_padding_ms, detection.silence_duration_ms
    return ActivityConfig(
        manual=detection.disabled,
        start_ms=90 if start_ms is None else start_ms,
        end_ms=max(default_end_ms, 800 if low else 0) if end_ms is None else end_ms,
    )
