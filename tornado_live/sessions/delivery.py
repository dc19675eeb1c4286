"""The way out by REST: answers that together hold every word once.

`POST /transcribe` answers when the open exchange completes; or once a newer chunk has arrived and
`transcribe_wait` has passed; or after `transcribe_max`. Texts are deltas: joined in order, without
anything between, they are the whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from tornado_live.errors import LiveError


@dataclass(slots=True)
class Answer:
    """What one request takes away with it.

    Attributes:
        input_text, reply_text: the next pieces of both sides' texts.
        audio: PCM of whole replies that ended, `audio.REPLY` samples.
        turn_id: of the newest exchange in it.
    """

    input_text: str = ""
    reply_text: str = ""
    audio: bytes = b""
    turn_id: str | None = None


@dataclass(slots=True, eq=False)
class Waiter:
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    timer: asyncio.TimerHandle | None = None


class RestDelivery:
    """Text not yet delivered by REST, and the requests that wait for it, oldest first.

    Args:
        wait_s: how long a request waits on after a newer one has come.
        max_s: how long it waits at the most.
    """

    def __init__(self, *, wait_s: float, max_s: float) -> None:
        self._wait_s = wait_s
        self._max_s = max_s
        self._pending = Answer()
        self._waiters: deque[Waiter] = deque()
        self._input_turn: str | None = None
        self._reply_turn: str | None = None
        self._input_begun = self._reply_begun = False
        self.used = False

    def add_input(self, turn_id: str, text: str) -> None:
        joint = self._input_begun and self._input_turn != turn_id
        self._pending.input_text += _joined(text, after_other_turn=joint, first=not self._input_begun)
        self._pending.turn_id = self._input_turn = turn_id
        self._input_begun = True

    def add_reply(self, turn_id: str, text: str) -> None:
        joint = self._reply_begun and self._reply_turn != turn_id
        self._pending.reply_text += _joined(text, after_other_turn=joint, first=not self._reply_begun)
        self._pending.turn_id = self._reply_turn = turn_id
        self._reply_begun = True

    def exchange_ended(self, audio: bytes, *, completed: bool) -> None:
        """The exchange is over; where it ran to its end, the oldest request is answered."""
        if self.used:
            self._pending.audio += audio
        if completed and self._waiters:
            self._release(self._waiters[0])

    def wait(self) -> asyncio.Future[Answer]:
        """Joins the queue of requests. Cancel the future when the client has gone."""
        self.used = True
        loop = asyncio.get_running_loop()
        waiter = Waiter()
        if self._waiters:
            before = self._waiters[-1]
            self._set_timer(before, loop.time() + self._wait_s)
        self._waiters.append(waiter)
        waiter.timer = loop.call_later(self._max_s, self._release, waiter)
        waiter.answer.add_done_callback(lambda _: self._forget(waiter))
        return waiter.answer

    def withdraw(self, waiting: asyncio.Future[Answer]) -> None:
        """The request ends without its answer, which the next one gets if it was given already."""
        if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
            self.give_back(waiting.result())
        else:
            waiting.cancel()

    def take(self) -> Answer:
        """All that has not been delivered."""
        answer, self._pending = self._pending, Answer()
        return answer

    def give_back(self, answer: Answer) -> None:
        """The answer was not written after all: the next one begins with it."""
        pending = self._pending
        self._pending = Answer(
            answer.input_text + pending.input_text,
            answer.reply_text + pending.reply_text,
            answer.audio + pending.audio,
            pending.turn_id or answer.turn_id,
        )

    def release_all(self) -> None:
        """The session is over: every request is answered now, the oldest with the text."""
        while self._waiters:
            self._release(self._waiters[0])

    def fail_all(self, error: LiveError) -> None:
        """Every waiting request gets the error; undelivered text stays."""
        for waiter in list(self._waiters):
            self._forget(waiter)
            if not waiter.answer.done():
                waiter.answer.set_exception(error)

    def _release(self, waiter: Waiter) -> None:
        self._forget(waiter)
        if not waiter.answer.done():
            waiter.answer.set_result(self.take())

    def _forget(self, waiter: Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _set_timer(self, waiter: Waiter, at: float) -> None:
        if waiter.timer is not None:
            if waiter.timer.when() <= at:
                return
            waiter.timer.cancel()
        waiter.timer = asyncio.get_running_loop().call_at(at, self._release, waiter)


def _joined(text: str, *, after_other_turn: bool, first: bool) -> str:
    """`text` so that it can follow what came before with nothing between."""
    if first:
        return text.lstrip()
    if after_other_turn and text[:1].strip():
        return " " + text
    return text
