"""When the user spoke, by how loud the audio was: transcriptions come later and do not say it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from tornado_live.audio import TARGET, is_loud

PAUSE_MS = 300
TURN_PAUSE_MS = 2000
"""What was loud so long before the rest is not part of the same turn: a door, a cough."""
SILENT_RECORDER_MS = 1000
"""Where so much audio is missing, the recorder was stopped: what follows begins anew."""

FORGIVENESS = 0.1
"""How fast less than that, after which all that follows seems early, is forgotten: 100 ms a second."""


@dataclass(slots=True)
class _Recording:
    """Audio without a gap; `started_ms` is when its first sample was recorded, as far as is known."""

    started_ms: float
    length_ms: float = 0.0


@dataclass(slots=True)
class _Stretch:
    """Loud audio; begin and end count from the start of the recording."""

    recording: _Recording
    begin_ms: float
    end_ms: float

    @property
    def began_ms(self) -> int:
        return max(0, round(self.recording.started_ms + self.begin_ms))

    @property
    def ended_ms(self) -> int:
        return max(0, round(self.recording.started_ms + self.end_ms))


class SpeechTimes:
    """The stretches of one session's audio in which someone seems to speak, not yet transcribed.

    Times are ms on the session's clock. A chunk comes after it was recorded, in slices: when a recording
    began is known from whichever sample was the least late.
    """

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque(maxlen=64)
        self._recording = _Recording(math.inf)

    def hear(self, pcm: bytes, now_ms: int) -> None:
        """Takes the next `TARGET` samples."""
        length_ms = TARGET.seconds(len(pcm)) * 1000
        recording = self._recording
        started_ms = now_ms - recording.length_ms - length_ms
        if started_ms - recording.started_ms > SILENT_RECORDER_MS:
            started_ms = now_ms - length_ms
            recording = self._recording = _Recording(started_ms)
        recording.started_ms = min(recording.started_ms + FORGIVENESS * length_ms, started_ms)
        begin_ms = recording.length_ms
        recording.length_ms = end_ms = begin_ms + length_ms
        if not is_loud(pcm):
            return
        last = self._stretches[-1] if self._stretches else None
        if last and last.recording is recording and begin_ms - last.end_ms <= PAUSE_MS:
            last.end_ms = end_ms
        else:
            self._stretches.append(_Stretch(recording, begin_ms, end_ms))

    def began(self, now_ms: int) -> int:
        """When what is transcribed now began to be said."""
        began_ms = now_ms
        for number, stretch in enumerate(reversed(self._stretches)):
            if number and began_ms - stretch.ended_ms > TURN_PAUSE_MS:
                break
            began_ms = stretch.began_ms
        return began_ms

    def ended(self, now_ms: int) -> int:
        """When the user was last heard."""
        return self._stretches[-1].ended_ms if self._stretches else now_ms

    def forget(self, until_ms: int) -> None:
        """What was heard until then belongs to a turn that is over."""
        while self._stretches and self._stretches[0].ended_ms <= until_ms:
            self._stretches.popleft()
        if self._stretches and self._stretches[0].began_ms < until_ms:
            self._stretches[0].begin_ms = until_ms - self._stretches[0].recording.started_ms
