"""When the user spoke, by how loud the audio was: transcriptions come later and do not say it."""

from __future__ import annotations

from collections import deque

from tornado_live.audio import TARGET, is_loud

PAUSE_MS = 300
TURN_PAUSE_MS = 3000
"""What was loud so long before the rest is not part of the same turn: a door, a cough."""


class SpeechTimes:
    """The stretches of one session's audio in which someone seems to speak, not yet transcribed.

    Times are ms on the session's clock, on which audio ends when it arrives: they are as exact as the
    recorder's chunks are short.
    """

    def __init__(self) -> None:
        self._stretches: deque[tuple[int, int]] = deque(maxlen=64)
        self._heard_ms = 0

    def hear(self, pcm: bytes, now_ms: int) -> None:
        """Takes the next `TARGET` samples."""
        begin_ms = max(self._heard_ms, now_ms - round(TARGET.seconds(len(pcm)) * 1000))
        self._heard_ms = now_ms
        if not is_loud(pcm):
            return
        if self._stretches and begin_ms - self._stretches[-1][1] <= PAUSE_MS:
            begin_ms = self._stretches.pop()[0]
        self._stretches.append((begin_ms, now_ms))

    def began(self, now_ms: int) -> int:
        """When what is transcribed now began to be said."""
        began_ms = now_ms
        for number, (begin_ms, end_ms) in enumerate(reversed(self._stretches)):
            if number and began_ms - end_ms > TURN_PAUSE_MS:
                break
            began_ms = begin_ms
        return began_ms

    def ended(self, now_ms: int) -> int:
        """When the user was last heard."""
        return self._stretches[-1][1] if self._stretches else now_ms

    def transcribed(self, until_ms: int) -> None:
        """The turn that was said until then is over."""
        while self._stretches and self._stretches[0][1] <= until_ms:
            self._stretches.popleft()
