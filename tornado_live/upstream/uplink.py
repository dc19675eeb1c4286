"""What goes up: a bounded queue, and what was sent of the open turn in case it must be said again."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from tornado_live.audio import TARGET
from tornado_live.errors import AudioTooFast
from tornado_live.upstream.policy import LinkPolicy

BYTES_PER_SECOND = TARGET.bytes_per_frame * TARGET.rate_hz


def silence(duration_s: float) -> bytes:
    """So much `TARGET` silence."""
    return bytes(round(duration_s * TARGET.rate_hz) * TARGET.bytes_per_frame)


@dataclass(frozen=True, slots=True)
class Audio:
    """At most one message of `TARGET` samples; `mark` is told when it has been sent."""

    pcm: bytes
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    text: str


class Signal(enum.Enum):
    ACTIVITY_START = enum.auto()
    ACTIVITY_END = enum.auto()
    END_OF_STREAM = enum.auto()


Item = Audio | Text | Signal


class Uplink:
    """Everything that waits to be sent, in order, and the open turn as far as it was sent.

    What the model has answered is forgotten (`consumed`); of what it has not, `rewind` puts the tail back
    to the front of the queue.
    """

    def __init__(self, policy: LinkPolicy) -> None:
        self._message_bytes = round(policy.max_message_s * BYTES_PER_SECOND)
        self._max_bytes = round(policy.max_backlog_s * BYTES_PER_SECOND)
        self._replay_bytes = round(policy.replay_max_s * BYTES_PER_SECOND)
        self._lead_bytes = round(policy.replay_lead_s * BYTES_PER_SECOND)
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._sent: deque[Item] = deque()
        self._sent_bytes = 0
        self._loud = False

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio not yet sent."""
        return self._queued_bytes / BYTES_PER_SECOND

    @property
    def open_turn_is_loud(self) -> bool:
        """Someone seems to have spoken in what was sent and is not consumed."""
        return self._loud

    def put_audio(self, pcm: bytes, mark: int | None) -> None:
        """
        Raises:
            AudioTooFast: the queue is full; nothing of `pcm` is kept.
        """
        if self._queued_bytes + len(pcm) > self._max_bytes:
            raise AudioTooFast
        self._queued_bytes += len(pcm)
        if len(pcm) <= self._message_bytes:
            self._queue.append(Audio(pcm, mark))
            return
        last = (len(pcm) - 1) // self._message_bytes * self._message_bytes
        for start in range(0, last, self._message_bytes):
            self._queue.append(Audio(pcm[start : start + self._message_bytes]))
        self._queue.append(Audio(pcm[last:], mark))

    def put(self, item: Text | Signal) -> None:
        self._queue.append(item)

    def head(self) -> Item:
        """The next item. It stays until `pop_sent` says that it was sent."""
        return self._queue[0]

    def pop_sent(self, *, loud: bool = False) -> None:
        """The head was given to the socket; `loud`: someone seems to speak in it."""
        item = self._queue.popleft()
        if item is Signal.END_OF_STREAM:
            return
        self._sent.append(item)
        if isinstance(item, Audio):
            self._queued_bytes -= len(item.pcm)
            self._sent_bytes += len(item.pcm)
            self._loud |= loud
            self._forget_old_audio()

    def _forget_old_audio(self) -> None:
        keep_bytes = self._replay_bytes if self._loud else self._lead_bytes
        while self._sent_bytes > keep_bytes:
            index, oldest = next((i, item) for i, item in enumerate(self._sent) if isinstance(item, Audio))
            self._sent_bytes -= len(oldest.pcm)
            del self._sent[index]

    def consumed(self) -> None:
        """The model has taken in what was sent so far: none of it need be said again."""
        self._sent.clear()
        self._sent_bytes = 0
        self._loud = False

    def rewind(self, *, in_activity: bool) -> None:
        """Queues what was sent and not consumed once more, before all else.

        Args:
            in_activity: the user has begun a turn by hand and not ended it.
        """
        # A mark is told once.
        again = [Audio(item.pcm) if isinstance(item, Audio) else item for item in self._sent]
        if in_activity and Signal.ACTIVITY_START not in again:
            again.insert(0, Signal.ACTIVITY_START)
        self._queue.extendleft(reversed(again))
        self._queued_bytes += self._sent_bytes
        self.consumed()

    def say_instead(self, text: str) -> None:
        """Queues `text` before all else, in place of what was sent and not consumed."""
        self.consumed()
        self._queue.appendleft(Text(text))
