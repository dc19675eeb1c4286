"""Whose turn it is, told from a connection's events: what is owed, what has failed, what is too late."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from tornado_live.audio import REPLY
from tornado_live.upstream.base import (
    AudioDelta,
    ConnectionEvent,
    GenerationComplete,
    InputTranscript,
    Interrupted,
    LinkEvent,
    OutputTranscript,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnComplete,
    TurnFailed,
)
from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.uplink import Item, Signal, Text, Uplink

_SILENT_PEAK = 33
"""-60 dBFS: a reply that never gets louder cannot be heard."""
_HARMLESS_REASONS = frozenset({"NEED_MORE_INPUT"})


@dataclass(frozen=True, slots=True)
class Stall:
    """A turn for which nothing comes any more.

    Attributes:
        events: what the session is told.
        redial: the connection is suspect.
    """

    events: tuple[LinkEvent, ...]
    redial: bool


class Turns:
    """The state of the open exchange. Every method takes the time in monotonic seconds.

    A `TurnFailed` is always followed by a `TurnComplete`, the model's own or one made here.

    Args:
        may_stay_silent: the model need not answer speech: it is not asked a second time.
    """

    def __init__(self, policy: LinkPolicy, uplink: Uplink, *, may_stay_silent: bool = False) -> None:
        self._policy = policy
        self._uplink = uplink
        self._may_stay_silent = may_stay_silent
        self._in_activity = False
        self._speaking = False
        self._loud_at = float("-inf")
        self._heard_anything_at = float("-inf")
        self._interrupted_at: float | None = None
        self._nudged = False
        self._redialled = False
        self._begin_turn(float("-inf"))

    def _begin_turn(self, now: float) -> None:
        self._heard = ""
        self._owed = False
        self._asked = False
        self._replying = False
        self._generated = False
        self._stall_s = self._policy.stall_s
        self._reply_began_at = now
        self._reply_bytes = 0
        self._reply_peak = 0
        self._progress_at = now

    @property
    def interrupted(self) -> bool:
        """The reply was interrupted, and its turn is not complete yet."""
        return self._interrupted_at is not None

    def quiet(self, now: float) -> bool:
        """Nobody speaks, nothing is owed: nothing is lost if the connection is replaced now."""
        return not (
            self._owed
            or self._replying
            or self._in_activity
            or self._speaking
            or self._uplink.open_turn_is_loud
            or now - self._loud_at < self._policy.quiet_s
        )

    def sent(self, item: Item, now: float, *, loud: bool = False) -> None:
        """An item was given to the socket."""
        if loud:
            self._loud_at = now
        elif isinstance(item, Text) or item is Signal.ACTIVITY_END:
            self._in_activity = False
            self._asked = True
            self._owe(now)
        elif item is Signal.ACTIVITY_START:
            self._in_activity = True

    def _owe(self, now: float) -> None:
        self._owed = True
        self._progress_at = now

    def sign_of_life(self, now: float) -> None:
        """Something came from the model, whatever it is."""
        self._heard_anything_at = now

    def take(self, event: ConnectionEvent, now: float) -> tuple[LinkEvent, ...]:
        """What the session is told for this event: mostly just that."""
        match event:
            case AudioDelta():
                if self._is_late(now):
                    return ()
                self._reply(now)
                self._reply_bytes += len(event.pcm)
                if self._reply_peak < _SILENT_PEAK:
                    self._reply_peak = max(self._reply_peak, _peak(event.pcm))
            case TextDelta() | OutputTranscript():
                if not self._is_late(now):
                    self._reply(now)
            case InputTranscript():
                self._heard += event.text
                self._uplink.consumed()
                if not self._replying:
                    self._owe(now)
            case GenerationComplete():
                self._generated = True
                self._progress_at = now
            case Interrupted():
                self._interrupted(now)
            case TurnComplete():
                return self._complete(event, now)
            case SpeechStarted():
                self._speaking = True
            case SpeechStopped():
                self._speaking = False
        return (event,)

    def _is_late(self, now: float) -> bool:
        if self._interrupted_at is None:
            return False
        if now - self._interrupted_at < self._policy.late_audio_s:
            return True
        self._interrupted_at = None
        return False

    def _reply(self, now: float) -> None:
        if not self._replying:
            self._replying = True
            self._owed = self._asked = self._redialled = False
            self._heard = ""
            self._reply_began_at = now
            self._uplink.consumed()
        self._progress_at = now

    def _interrupted(self, now: float) -> None:
        # A phantom interruption, of no reply, has no late audio and no turn to end.
        if self._replying:
            heard = self._heard
            self._begin_turn(now)
            self._heard = heard
            self._interrupted_at = now

    def _complete(self, event: TurnComplete, now: float) -> tuple[LinkEvent, ...]:
        if self._interrupted_at is not None:
            # The end of the interrupted turn; what was heard since belongs to the next one.
            self._interrupted_at = None
            return (event,)
        if not event.idle:
            # More follows, after some thinking.
            self._progress_at = now
            self._stall_s = self._policy.thinking_stall_s
            return (event,)
        failure = self._failure(event)
        if failure == "empty" and self._policy.nudge is not None and not self._nudged:
            self._nudged = True
            self._uplink.put(Text(self._policy.nudge))
            self._owe(now)
            return ()
        self._nudged = False
        self._end_turn(now)
        return (TurnFailed(failure), event) if failure else (event,)

    def _failure(self, event: TurnComplete) -> str | None:
        if event.reason is not None and event.reason not in _HARMLESS_REASONS:
            return "rejected"
        if self._owed and not self._replying and event.reason is None:
            return "empty"
        if self._reply_bytes and self._reply_peak < _SILENT_PEAK:
            return "silent"
        return None

    def _end_turn(self, now: float) -> None:
        self._redialled = False
        self._speaking = False
        self._uplink.consumed()
        self._begin_turn(now)

    def lost(self, now: float) -> tuple[tuple[LinkEvent, ...], bool]:
        """The connection is gone: queues what must be said again, and ends a reply that was cut off.

        Returns:
            What the session is told, and whether the user's open turn is said again as audio.
        """
        events: tuple[LinkEvent, ...] = ()
        self._interrupted_at = None
        self._speaking = False
        if self._replying:
            events = (TurnComplete(),) if self._generated else (TurnFailed("lost"), TurnComplete())
            self._begin_turn(now)
        elif self._owed and self._heard and not self._in_activity and not self._uplink.open_turn_is_loud:
            # Saying the audio again would have its words transcribed twice.
            self._uplink.say_instead(self._heard)
            return events, False
        said_again = self._uplink.open_turn_is_loud
        self._uplink.rewind(in_activity=self._in_activity)
        return events, said_again

    def stalled(self, now: float) -> Stall | None:
        """To be asked now and then: has the model fallen silent in the middle of something?"""
        if self._replying:
            played_at = self._reply_began_at + REPLY.seconds(self._reply_bytes)
            if now - max(self._progress_at, played_at) < self._stall_s:
                return None
            generated = self._generated
            self._end_turn(now)
            if generated:
                return Stall((TurnComplete(),), redial=False)
            return Stall((TurnFailed("stalled"), TurnComplete()), redial=True)
        if self._owed:
            return self._unanswered(now) if now - self._progress_at >= self._stall_s else None
        return self._no_sign_of_life(now)

    def _unanswered(self, now: float) -> Stall:
        suspect = not self._redialled
        if suspect and (self._asked or not self._may_stay_silent):
            self._redialled = True
            return Stall((), redial=True)
        dead = suspect and now - self._heard_anything_at >= self._stall_s
        self._end_turn(now)
        return Stall((TurnFailed("stalled"), TurnComplete()), redial=dead)

    def _no_sign_of_life(self, now: float) -> Stall | None:
        """Someone was loud, and nothing comes, not even a transcript: a dead connection, or noise."""
        silent_since = max(self._loud_at, self._heard_anything_at)
        if not self._uplink.open_turn_is_loud or now - silent_since < self._stall_s:
            return None
        if not self._redialled:
            self._redialled = True
            return Stall((), redial=True)
        # The new connection did not care for it either: noise.
        self._redialled = False
        self._uplink.consumed()
        return None


def _peak(pcm: bytes) -> int:
    """The loudest of some of these `REPLY` samples."""
    samples = array("h", pcm[: len(pcm) & ~1])[::32]
    return max(max(samples), -min(samples)) if samples else 0
