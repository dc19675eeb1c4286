"""The way out: what the model says becomes exchanges, events, REST texts and turns of the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from tornado_live.audio import REPLY
from tornado_live.sessions.delivery import RestDelivery
from tornado_live.sessions.events import EventBody, ExchangeUpdate, Notice, ReplyAudio
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.pacer import Pacer
from tornado_live.sessions.speech import SpeechTimes
from tornado_live.sessions.transcript import Exchange, Transcript
from tornado_live.store.base import TurnRecord
from tornado_live.upstream.base import (
    AudioDelta,
    GenerationComplete,
    InputTranscript,
    InterimInputTranscript,
    Interrupted,
    LinkEvent,
    OutputTranscript,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnComplete,
    TurnFailed,
)

FRESH_AUDIO_S = 2.0
LATE_TRANSCRIPT_S = 0.2
NEXT_TURN_MS = 1000
"""What was loud so shortly before a turn is complete may be the beginning of the next one."""
UTTERANCE_PAUSE_MS = 500
BROKEN_OFF = ("lost", "stalled")
"""Failures in the middle of a reply."""


class Exchanges:
    """Applies the link's events to one session's transcript and tells its readers.

    While a finished exchange is being committed, later events wait, so that clients read all in order.

    Args:
        commit: has turns written; what it does not return from is not announced final.
        now_ms: the session's clock.
        emit: takes every event for the readers.
    """

    def __init__(
        self,
        key: str,
        options: SessionOptions,
        transcript: Transcript,
        rest: RestDelivery,
        *,
        output_lead_s: float,
        commit: Callable[[Sequence[TurnRecord]], Awaitable[None]],
        now_ms: Callable[[], int],
        emit: Callable[[EventBody], None],
    ) -> None:
        self._key = key
        self._options = options
        self._transcript = transcript
        self._rest = rest
        self._commit_turns = commit
        self._now_ms = now_ms
        self._emit = emit
        self._pacer = Pacer(output_lead_s, lambda exchange, pcm: emit(ReplyAudio(exchange, pcm)))
        self._speech = SpeechTimes()
        self._word_by_word = False
        self._typed: list[str] = []
        self._ended: Exchange | None = None
        self._held: list[LinkEvent] = []
        self._committing: asyncio.Task[None] | None = None
        self._turn_end_due = False
        self._last_id: str | None = None
        self._last_audio_s: float | None = None
        self._ending = False
        self._settled = asyncio.Event()
        self._settled.set()

    # What the user does

    def audio_sent(self, pcm: bytes) -> None:
        """More of the user's audio is on its way to the model."""
        self._speech.hear(pcm, self._now_ms())
        self._last_audio_s = time.monotonic()
        self._settled.clear()

    def written(self, text: str) -> None:
        """The user has typed a turn. During a reply it belongs to the next exchange."""
        before = self._transcript.open
        if self._typed or (before is not None and (before.has_reply or before.cancelled)):
            self._typed.append(text)
            return
        exchange = self._exchange()
        exchange.input_text += f" {text}" if exchange.input_text else text
        exchange.typed = exchange.input_over = True
        exchange.input_ended_ms = self._now_ms()
        self._emit(ExchangeUpdate.of(exchange))

    def cancel(self) -> None:
        """The rest of the reply is not wanted."""
        exchange = self.audible
        if exchange is not None and not exchange.silenced:
            exchange.cancelled = True
            self._pacer.drop()
            self._emit(_interruption(exchange))

    def played(self, turn_id: str, played_ms: int) -> None:
        """The user has heard so much of the reply's voice. A turn that is over does not change any more."""
        exchange = self.audible
        if exchange is not None and exchange.id == turn_id:
            exchange.played_ms = min(played_ms, round(exchange.spoken_ms))

    # How far it is

    @property
    def audible(self) -> Exchange | None:
        """The exchange whose reply is under way, or complete while its voice still waits to be played."""
        return self._ended if self._plays_on else self._transcript.open

    @property
    def _plays_on(self) -> bool:
        return self._ended is not None and self._pacer.holds(self._ended)

    @property
    def busy(self) -> bool:
        """Somebody speaks, or a reply is under way or being kept."""
        return self._transcript.open is not None or self._committing is not None

    @property
    def settled(self) -> bool:
        """Everything that was said has been answered."""
        return self._settled.is_set()

    async def wait_settled(self) -> None:
        await self._settled.wait()

    def finish(self) -> None:
        """The session is about to end: replies need not be waited for until they have been played."""
        self._ending = True

    def drop_audio(self) -> None:
        """What has not been played never will be."""
        self._pacer.drop()

    async def close(self) -> None:
        """Commits all that was said, the open exchange as interrupted. The link must be stopped."""
        self._pacer.drop()
        await self._committed()
        while self._transcript.open is not None:
            self._close_exchange(interrupted=True)
            await self._committed()

    async def _committed(self) -> None:
        while (task := self._committing) is not None:
            await task

    # What the model says

    def apply(self, event: LinkEvent) -> None:
        """Takes an event that is part of the conversation; those about the connection are not."""
        if self._committing is not None:
            if isinstance(event, Interrupted) and self._plays_on:
                self._interrupt_ended()
            else:
                self._held.append(event)
            return
        match event:
            case AudioDelta(pcm):
                self._hear_reply(pcm)
            case InterimInputTranscript(text):
                exchange = self._spoken_exchange()
                exchange.interim = text
                self._emit(ExchangeUpdate.of(exchange))
            case InputTranscript(text):
                self._hear_user(text)
            case OutputTranscript(text) | TextDelta(text):
                self._read_reply(text, written=isinstance(event, TextDelta))
            case SpeechStarted():
                self._emit(Notice("speech_started"))
            case SpeechStopped():
                self._emit(Notice("speech_stopped"))
            case Interrupted():
                self._interrupted()
            case TurnComplete(idle=idle):
                self._turn_complete(idle)
            case TurnFailed(reason):
                self._turn_failed(reason)
            case GenerationComplete():
                self._generation_complete()

    def _exchange(self) -> Exchange:
        self._settled.clear()
        return self._transcript.exchange(self._now_ms())

    def _spoken_exchange(self) -> Exchange:
        """The open exchange, or one that began when the user began to speak."""
        self._settled.clear()
        return self._transcript.exchange(self._speech.began(self._now_ms()))

    def _hear_user(self, text: str) -> None:
        if not text:
            return
        now_ms = self._now_ms()
        exchange = self._spoken_exchange()
        exchange.interim = ""
        text = _continued(exchange.input_text, text, apart=self._is_another_utterance(exchange, text, now_ms))
        exchange.input_text += text
        if exchange.input_at_ms is None:
            self._transcript.began_by(self._speech.began(now_ms))
        exchange.input_at_ms, exchange.input_over = now_ms, False
        ended_ms = self._speech.ended(now_ms)
        if exchange.reply_started_ms is None:
            exchange.input_ended_ms = max(exchange.input_ended_ms or 0, ended_ms)
        elif exchange.input_ended_ms is None:
            exchange.input_ended_ms = min(exchange.reply_started_ms, ended_ms)
        if self._options.input_transcription:
            self._rest.add_input(exchange.id, text)
            self._emit(ExchangeUpdate.of(exchange))

    def _is_another_utterance(self, exchange: Exchange, text: str, now_ms: int) -> bool:
        """Models that transcribe word by word put a space before each; others give utterances, bare."""
        self._word_by_word |= text.startswith(" ")
        if exchange.input_over or self._word_by_word or exchange.input_at_ms is None:
            return exchange.input_over
        return now_ms - exchange.input_at_ms > UTTERANCE_PAUSE_MS

    def _reply(self) -> Exchange | None:
        """The exchange that the model's output belongs to; None when it is not wanted any more."""
        exchange = self._exchange()
        if exchange.cancelled:
            return None
        if exchange.reply_started_ms is None:
            exchange.reply_started_ms = self._now_ms()
        return exchange

    def _hear_reply(self, pcm: bytes) -> None:
        exchange = self._reply()
        if exchange is None or self._options.modality == "text":
            return
        exchange.spoken_ms += REPLY.seconds(len(pcm)) * 1000
        if self._options.audio_delivery == "stream":
            self._pacer.add(exchange, pcm)
        else:
            exchange.audio.append(pcm)

    def _read_reply(self, text: str, *, written: bool) -> None:
        exchange = self._reply()
        if exchange is None or not text:
            return
        text = _continued(exchange.reply_text, text, apart=exchange.reply_over)
        exchange.reply_over = False
        if written:
            exchange.written += text
        else:
            exchange.spoken += text
        if self._options.shows_reply_text:
            self._rest.add_reply(exchange.id, text)
            self._emit(ExchangeUpdate.of(exchange))

    def _interrupted(self) -> None:
        self._pacer.drop()
        exchange = self._transcript.open
        if exchange is None or not exchange.cancelled:
            self._emit(
                _interruption(exchange) if exchange else Notice("interrupted", {"turnId": self._last_id})
            )
        if exchange is not None:
            self._turn_end_due = True
            self._close_exchange(interrupted=True, over=False)

    def _interrupt_ended(self) -> None:
        """The reply is complete, but it has not been played."""
        self._pacer.drop()
        if self._ended is not None and not self._ended.silenced:
            self._ended.interrupted = True
            self._emit(_interruption(self._ended))

    def _turn_complete(self, idle: bool) -> None:
        exchange = self._transcript.open
        of_closed, self._turn_end_due = self._turn_end_due, False
        if of_closed and (exchange is None or not exchange.has_reply):
            return
        if not idle:
            if exchange is not None:
                exchange.input_over = exchange.reply_over = True
            return
        if exchange is None:
            self._settle()
        else:
            self._close_exchange(interrupted=exchange.cancelled)

    def _turn_failed(self, reason: str) -> None:
        """Nobody is told that a reply failed which the user had stopped."""
        exchange = self._transcript.open
        stopped = exchange.cancelled if exchange is not None else self._turn_end_due
        if not stopped:
            turn_id = exchange.id if exchange is not None else None
            self._emit(Notice("turn_failed", {"reason": reason, "turnId": turn_id}))
        if exchange is not None:
            broken_off = exchange.has_reply and reason in BROKEN_OFF
            self._close_exchange(interrupted=exchange.cancelled or broken_off)

    def _generation_complete(self) -> None:
        """The model's turn lasts as long as its playback would; readers, and who is leaving, do not wait."""
        exchange = self._transcript.open
        if exchange is not None and (self._ending or self._options.modality == "text"):
            asyncio.get_running_loop().call_later(LATE_TRANSCRIPT_S, self._close_if_open, exchange)

    def _close_if_open(self, exchange: Exchange) -> None:
        if self._transcript.open is exchange:
            self._turn_end_due = True
            self._close_exchange(interrupted=exchange.cancelled)

    # The end of an exchange

    def _close_exchange(self, *, interrupted: bool, over: bool = True) -> None:
        """`over`: nothing more comes of it; else the model will say so yet."""
        if self._transcript.open is None:
            return
        exchange, turns = self._transcript.close(self._key, self._now_ms(), interrupted=interrupted)
        self._last_id = exchange.id
        if exchange.input_at_ms is not None:
            self._speech.forget(self._transcribed_until(exchange))
        self._ended = exchange
        self._committing = asyncio.create_task(self._commit(exchange, turns, over))

    def _transcribed_until(self, exchange: Exchange) -> int:
        """The user speaks already where the reply was interrupted; where not, nobody has."""
        if not exchange.interrupted:
            return self._now_ms() - NEXT_TURN_MS
        until_ms = exchange.reply_started_ms if exchange.has_reply else exchange.input_ended_ms
        return until_ms or 0

    async def _commit(self, exchange: Exchange, turns: list[TurnRecord], over: bool) -> None:
        """A turn is with the store before it is announced final."""
        if turns:
            await self._commit_turns(turns)
        await self._pacer.played(exchange)
        audio, exchange.audio = b"".join(exchange.audio), []
        self._emit(ExchangeUpdate.of(exchange, final=True, audio=audio))
        if not exchange.silenced:
            self._emit(Notice("turn_complete", {"turnId": exchange.id, "latency": _latency(exchange)}))
        self._committing = self._ended = None
        typed, self._typed = self._typed, []
        for text in typed:
            self.written(text)
        if over:
            self._settle(typed=exchange.typed)
        self._rest.exchange_ended(audio, completed=over)
        held, self._held = self._held, []
        for event in held:
            self.apply(event)

    def _settle(self, *, typed: bool = False) -> None:
        """A turn is complete. Audio that came shortly before may hold the beginning of the next one.

        Who is leaving does not wait for that, unless the turn answered what was typed: then the words
        of that audio are still on their way.
        """
        fresh = self._last_audio_s is not None and time.monotonic() - self._last_audio_s < FRESH_AUDIO_S
        if self._transcript.open is None and (not fresh or (self._ending and not typed)):
            self._settled.set()


def _continued(before: str, text: str, *, apart: bool) -> str:
    """`text` so that it can be put after `before`: words of different utterances do not touch."""
    if not before:
        return text.lstrip()
    return f" {text}" if apart and text[0].isalnum() and not before[-1].isspace() else text


def _interruption(exchange: Exchange) -> Notice:
    data: dict[str, object] = {"turnId": exchange.id}
    if exchange.played_ms is not None:
        data |= {"heardMs": exchange.played_ms, "heardText": exchange.heard_text}
    return Notice("interrupted", data)


def _latency(exchange: Exchange) -> dict[str, int | None]:
    """ms from the user's last word to the reply's first sign, and to its end."""
    said_ms = exchange.input_ended_ms
    if said_ms is None or exchange.reply_started_ms is None or exchange.ended_ms is None:
        return {"firstReplyMs": None, "completeMs": None}
    return {
        "firstReplyMs": max(0, exchange.reply_started_ms - said_ms),
        "completeMs": max(0, exchange.ended_ms - said_ms),
    }
