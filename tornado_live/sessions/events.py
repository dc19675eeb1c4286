"""The numbered log of what happened in a session, on its way to clients.

Texts and audio are kept once, as deltas; what a client reads is rendered when it is sent.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tornado_live.sessions.transcript import Exchange

MAX_AGE_S = 12.0
MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened; `data` is what the client reads of it."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    code: str | None = None

    @property
    def size_bytes(self) -> int:
        return 256


@dataclass(frozen=True, slots=True)
class ExchangeUpdate:
    """The exchange grew, or ended: its first `input_chars`, `written_chars`, `spoken_chars` hold now."""

    exchange: Exchange
    input_chars: int
    written_chars: int
    spoken_chars: int
    interim: str = ""
    final: bool = False
    audio: bytes = b""

    @property
    def size_bytes(self) -> int:
        return 128 + len(self.interim) + len(self.audio)

    @classmethod
    def of(cls, exchange: Exchange, *, final: bool = False, audio: bytes = b"") -> ExchangeUpdate:
        return cls(
            exchange,
            len(exchange.input_text),
            len(exchange.written),
            len(exchange.spoken),
            exchange.interim,
            final,
            audio,
        )


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """The next piece of the reply's voice, for sessions that want it in pieces: `audio.REPLY` samples."""

    exchange: Exchange
    pcm: bytes

    @property
    def size_bytes(self) -> int:
        return 64 + len(self.pcm)


EventBody = Notice | ExchangeUpdate | ReplyAudio


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` counts from 1 and strictly rises; `at_s` is on the monotonic clock."""

    seq: int
    at_s: float
    body: EventBody


class EventLog:
    """The newest events, bounded by age and size, to be replayed to a client that was away.

    The audio of the newest whole reply does not count: it may alone be larger than the bound.

    Args:
        last_seq: the number of the last event of an earlier process.
        max_age_s: how long an event is kept.
    """

    def __init__(self, *, last_seq: int = 0, max_age_s: float = MAX_AGE_S) -> None:
        self._max_age_s = max_age_s
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._newest_reply: Event | None = None
        self.last_seq = last_seq

    def append(self, body: EventBody, now_s: float) -> Event:
        self.last_seq += 1
        event = Event(self.last_seq, now_s, body)
        self._events.append(event)
        self._bytes += body.size_bytes
        if isinstance(body, ExchangeUpdate) and body.audio:
            if self._newest_reply is not None:
                self._bytes += _reply_bytes(self._newest_reply)
            self._bytes -= _reply_bytes(event)
            self._newest_reply = event
        oldest_s = now_s - self._max_age_s
        while len(self._events) > 1 and (self._bytes > MAX_BYTES or self._events[0].at_s < oldest_s):
            self._drop_oldest()
        return event

    def acknowledge(self, seq: int) -> None:
        """The client has everything up to `seq`: it will never ask for it again."""
        while self._events and self._events[0].seq <= seq:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self._bytes -= oldest.body.size_bytes
        if oldest is self._newest_reply:
            self._bytes += _reply_bytes(oldest)
            self._newest_reply = None

    def since(self, last_seq: int) -> tuple[list[Event], tuple[int, int] | None]:
        """The events after `last_seq`, and the gap (first and last lost number) before them, if any."""
        first_kept = self._events[0].seq if self._events else self.last_seq + 1
        kept = itertools.dropwhile(lambda event: event.seq <= last_seq, self._events)
        gap = (last_seq + 1, first_kept - 1) if first_kept > last_seq + 1 else None
        return list(kept), gap


def _reply_bytes(event: Event) -> int:
    return len(event.body.audio) if isinstance(event.body, ExchangeUpdate) else 0
