"""Somebody must end the turn: when a recorder stops it just falls silent, but the model listens for silence.

The rule is kept here without a clock or a socket; the link asks it what to send and when.
"""

from __future__ import annotations

import enum

from tornado_live.upstream.policy import LinkPolicy

_SAME_CHUNK_S = 0.05
"""Pieces that arrive this close together come from one chunk of the recorder."""
_LONGEST_CHUNK_S = 5.0
"""What arrives in larger lumps is a file, not a recorder."""


class Phase(enum.Enum):
    """Where a stream stands."""

    IDLE = enum.auto()
    """Nothing to end: no audio yet, or the turn has been ended."""
    RUNNING = enum.auto()
    """The recorder runs: nothing may be put between its chunks."""
    TRAILING = enum.auto()
    """The stream is over; silence follows it until the model has noticed."""


class TrailingSilence:
    """Decides when silence is due after the user's last audio.

    Every method takes the time in monotonic seconds.

    Args:
        needs_silence: the model notices the end of speech only while audio goes on arriving; else
            there is no silence, just the stream end.
        enabled: False where the client marks its turns itself.
    """

    def __init__(self, policy: LinkPolicy, *, needs_silence: bool, enabled: bool) -> None:
        self._policy = policy
        self._max_s = policy.silence_max_s if needs_silence else 0.0
        self._enabled = enabled
        self.phase = Phase.IDLE
        self._last_at = 0.0
        self._chunk_s = 0.0
        self._longest_gap_s = 0.0
        self._began_at = 0.0
        self._sent_s = 0.0
        self._burst_s = 0.0

    def audio(self, now: float, duration_s: float) -> None:
        """Real audio arrived. Ends the trailing silence at once."""
        gap_s = now - self._last_at
        if self.phase is not Phase.RUNNING or gap_s > self._patience_s():
            self.phase = Phase.RUNNING
            self._longest_gap_s = 0.0
            self._chunk_s = duration_s
        elif gap_s < _SAME_CHUNK_S:
            self._chunk_s += duration_s
        else:
            self._longest_gap_s = max(self._longest_gap_s, gap_s)
            self._chunk_s = duration_s
        self._last_at = now

    def end_of_stream(self, now: float) -> None:
        """The client says that the utterance is over."""
        if self.phase is Phase.RUNNING:
            self._begin(now, burst=True)

    def heard_again(self, now: float) -> None:
        """The open turn was said again on a new connection, which has heard nothing of its end yet."""
        if self._enabled and self.phase is not Phase.RUNNING:
            self._begin(now, burst=True)

    def turn_complete(self) -> None:
        """The model has answered: after a stream that is over, nothing more is due."""
        if self.phase is Phase.TRAILING:
            self.phase = Phase.IDLE

    def due_in(self, now: float) -> float | None:
        """Seconds until `take` has something to say; None: not before the next call of another method."""
        if not self._enabled or self.phase is Phase.IDLE:
            return None
        if self.phase is Phase.RUNNING:
            return max(0.0, self._last_at + self._patience_s() - now)
        if self._sent_s < self._burst_s:
            return 0.0
        return max(0.0, self._began_at + self._sent_s - self._burst_s - now)

    def take(self, now: float) -> float | None:
        """What is due now: seconds of silence to send, or None for the end of the stream."""
        if self.phase is Phase.RUNNING:
            self._begin(now, burst=False)
        if self._sent_s >= self._max_s - 1e-9:
            self.phase = Phase.IDLE
            return None
        piece_s = self._policy.max_message_s if self._sent_s < self._burst_s else self._policy.silence_piece_s
        piece_s = min(piece_s, self._max_s - self._sent_s)
        self._sent_s += piece_s
        return piece_s

    def _begin(self, now: float, *, burst: bool) -> None:
        self.phase = Phase.TRAILING
        self._began_at = now
        self._sent_s = 0.0
        self._burst_s = self._policy.silence_burst_s if burst else 0.0

    def _patience_s(self) -> float:
        policy = self._policy
        if self._longest_gap_s:
            return max(policy.silence_after_s, policy.silence_gap_factor * self._longest_gap_s)
        # A recorder that cuts every three seconds shows it in its first chunk, before a gap is known.
        chunk_s = self._chunk_s if self._chunk_s <= _LONGEST_CHUNK_S else 0.0
        return max(policy.silence_after_unknown_s, policy.silence_gap_factor * chunk_s)
