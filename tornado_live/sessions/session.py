"""One conversation, independent of any connection."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Protocol

from tornado_live.audio import TARGET
from tornado_live.errors import (
    ExtensionRefused,
    InactivityTimeout,
    LiveError,
    RateLimited,
    ResumeRefused,
    SessionEnded,
    SessionExpired,
    SessionReplaced,
    StoreUnavailable,
    UplinkBusy,
)
from tornado_live.sessions.delivery import RestDelivery
from tornado_live.sessions.events import Event, EventBody, EventLog, ExchangeUpdate, Notice, ReplyAudio
from tornado_live.sessions.intake import Chunk, Codecs, Intake, IntakePolicy
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.pacer import Pacer
from tornado_live.sessions.transcript import Exchange, Transcript
from tornado_live.store.base import SessionRecord, SessionStatus, Store, TurnRecord
from tornado_live.upstream.base import (
    AudioDelivered,
    AudioDelta,
    GenerationComplete,
    GoAway,
    HistoryTurn,
    InputTranscript,
    InterimInputTranscript,
    Interrupted,
    LinkEvent,
    LinkFailed,
    LinkReady,
    LinkReconnecting,
    LinkRotated,
    OutputTranscript,
    ResumptionHandle,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnComplete,
    TurnFailed,
    UpstreamLink,
    Usage,
)

log = logging.getLogger(__name__)

UPLINK_HOLD_S = 5.0
FRESH_AUDIO_S = 2.0
COUNT_EVERY_S = 1.0
RESERVED_SEQS = 1000
WARN_AT_S = (60.0, 30.0, 10.0)
LATE_TRANSCRIPT_S = 0.2

MakeLink = Callable[[Callable[[LinkEvent], None], Callable[[], list[HistoryTurn]], str | None], UpstreamLink]
"""(on_event, history, handle) → the session's link, not yet started."""


class Attachment(Protocol):
    """A connection that reads a session.

    Attributes:
        observer: it only reads; it neither keeps the session alive nor is replaced by a resume.
    """

    observer: bool

    def deliver(self, event: Event) -> None:
        """Takes an event on its way to the client; never blocks."""

    def session_closed(self, error: LiveError | None) -> None:
        """The session is over (None: it was ended) or has let this connection go; nothing follows."""


class Meter(Protocol):
    """Counts what a caller uses; every method raises RateLimited where a limit is over."""

    async def open_session(self, key: str, lifetime_s: float) -> None: ...

    async def close_session(self, key: str) -> None: ...

    async def count_audio(self, seconds: float, size: int) -> None: ...

    async def count_tokens(self, tokens: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a client that comes back is given.

    Attributes:
        token: for the next time.
        missed: the events after the last one it has, in order.
        gap: first and last number of events that are lost.
    """

    token: str
    missed: list[Event]
    gap: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """The timing of sessions, from the settings."""

    intake: IntakePolicy = field(default_factory=IntakePolicy)
    transcribe_wait_s: float = 1.0
    transcribe_max_s: float = 20.0
    output_lead_s: float = 2.0
    end_wait_s: float = 3.0


class Session:
    """A conversation: takes in chunks and text, applies what the model says, keeps the ledger.

    Made by the registry, which also ends it. All methods belong to one event loop.
    """

    def __init__(
        self,
        record: SessionRecord,
        options: SessionOptions,
        *,
        served_model: str,
        policy: SessionPolicy,
        codecs: Codecs,
        store: Store,
        make_link: MakeLink,
        turns: list[TurnRecord] | None = None,
    ) -> None:
        self.record = record
        self.options = options
        self.served_model = served_model
        self.policy = policy
        self.store = store
        self.store_failed = False
        self.transcript = Transcript(turns)
        self.log = EventLog(last_seq=record.last_seq)
        self.rest = RestDelivery(wait_s=policy.transcribe_wait_s, max_s=policy.transcribe_max_s)
        self.intake = Intake(
            codecs,
            policy.intake,
            self._send_audio,
            self._report_lost,
            init_segment=record.init_segment,
            first_seq=0 if record.epoch == 1 else None,
        )
        self.link = make_link(self._on_link_event, self.transcript.history, record.handle)
        self.attachments: list[Attachment] = []
        self.socket_used = False
        self.detached_s: float | None = None
        self.last_activity_s = time.monotonic()
        self._clock_zero_s = time.monotonic() - (time.time() - record.started_at)
        self._pacer = Pacer(policy.output_lead_s, self._emit_reply_audio)
        self._uplink: tuple[object, float] | None = None
        self._held: list[LinkEvent] = []
        self._committing: asyncio.Task[None] | None = None
        self._await_interrupted_turn = False
        self._last_audio_s: float | None = None
        self._ending = False
        self._last_exchange_id: str | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self.meter: Meter | None = None
        self._uncounted_s = 0.0
        self._uncounted_bytes = 0
        self._over_limit: tuple[RateLimited, float] | None = None
        self._counting: set[asyncio.Task[None]] = set()
        self._clock_timer: asyncio.TimerHandle | None = None
        self._saving: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[SessionRecord] | None = None
        self.closed_callbacks: list[Callable[[Session], None]] = []
        self._closing_error: LiveError | None = None

    # What it is

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def label(self) -> str:
        return self.record.label

    @property
    def status(self) -> SessionStatus:
        if self.record.status == "active" and self.detached_s is not None:
            return "detached"
        return self.record.status

    @property
    def alive(self) -> bool:
        return self.record.status in ("connecting", "active") and self.closing is None

    @property
    def now_ms(self) -> int:
        """The session's clock: ms since it was started."""
        return int((time.monotonic() - self._clock_zero_s) * 1000)

    @property
    def remaining_s(self) -> float:
        """Seconds until it expires."""
        return self.record.expires_at - self.record.started_at - self.now_ms / 1000

    @property
    def busy(self) -> bool:
        """A reply is under way."""
        return self.transcript.open is not None

    def view(self) -> SessionRecord:
        """The record as it is at this moment."""
        idle_s = time.monotonic() - self.last_activity_s
        return replace(
            self.record,
            status=self.status,
            last_activity_at=time.time() - idle_s,
            last_seq=self.log.last_seq + RESERVED_SEQS,
            init_segment=self.intake.init_segment,
        )

    # Life

    async def open(self, wait_s: float) -> None:
        """Starts the link and waits for it, `wait_s` at the most; the status tells how far it is.

        Raises:
            UpstreamError: refused.
        """
        self._set_clock()
        self.link.start()
        if await self.link.wait_ready(wait_s):
            self._became_active()

    def close(self, status: SessionStatus, error: LiveError | None = None) -> asyncio.Task[SessionRecord]:
        """Ends the session; the task gives its final record. Called again, the same task.

        Args:
            error: why, where the client did not ask for it.
        """
        if self.closing is None:
            self._closing_error = error
            self.closing = asyncio.create_task(self._close(status, error))
            self.closing.add_done_callback(self._tell_closed)
        return self.closing

    def extend(self, by_s: float, max_duration_s: float) -> None:
        """Moves the end by `by_s`, so that the session lasts `max_duration_s` at the most.

        Raises:
            ExtensionRefused: it lasts that long already.
        """
        self.check_alive()
        expires_at = min(self.record.expires_at + by_s, self.record.started_at + max_duration_s)
        if expires_at <= self.record.expires_at:
            raise ExtensionRefused
        self.record = replace(self.record, expires_at=expires_at)
        self._set_clock()
        self._save_soon()

    def _set_clock(self) -> None:
        """Warns 60, 30 and 10 s before the end, and ends the session at its end."""
        if self._clock_timer is not None:
            self._clock_timer.cancel()
        remaining_s = self.remaining_s
        if remaining_s <= 0:
            self.close("expired", SessionExpired())
            return
        next_s = next((at_s for at_s in WARN_AT_S if at_s < remaining_s), 0.0)
        self._clock_timer = asyncio.get_running_loop().call_later(
            remaining_s - next_s, self._clock_struck, next_s
        )

    def _clock_struck(self, before_end_s: float) -> None:
        if before_end_s:
            self._emit(Notice("session_expiring", {"inMs": int(before_end_s * 1000)}))
        self._set_clock()

    async def discard(self) -> None:
        """Lets go of a session that could not be opened."""
        await self._let_go()

    def _tell_closed(self, _: object) -> None:
        for callback in self.closed_callbacks:
            callback(self)

    async def suspend(self, error: LiveError) -> None:
        """Lets go of everything but the record, so that the conversation can be gone on with."""
        await self._let_go()
        self.record = replace(self.view(), status="detached")
        await self._save()
        self.rest.fail_all(error)
        for attachment in list(self.attachments):
            attachment.session_closed(error)
        self.attachments.clear()

    async def _close(self, status: SessionStatus, error: LiveError | None) -> SessionRecord:
        if error is None:
            await self._finish_exchange()
        await self._let_go()
        self.record = replace(
            self.view(), status=status, ended_at=time.time(), end_reason=error.code if error else None
        )
        await self._save()
        self.rest.release_all()
        for attachment in list(self.attachments):
            attachment.session_closed(error)
        self.attachments.clear()
        return self.record

    async def _let_go(self) -> None:
        """Stops everything that runs; what was said so far is committed."""
        if self._clock_timer is not None:
            self._clock_timer.cancel()
        self.intake.close()
        self._pacer.drop()
        await self.link.stop()
        await self._committed()
        self._close_exchange(interrupted=True)
        await self._committed()
        for running in (*self._counting, *([self._saving] if self._saving else ())):
            await asyncio.wait([running])
        if self.meter is not None:
            await self.meter.close_session(self.key)

    async def _committed(self) -> None:
        while (task := self._committing) is not None:
            await task

    async def _finish_exchange(self) -> None:
        """Has everything that was said answered, within `end_wait_s`."""
        try:
            await self.intake.finish()
        except LiveError as exc:
            log.info("last_audio_not_decodable", extra={"session": self.key, "code": exc.code})
        self._ending = True
        if self.settled:
            return
        if self.options.turn_detection == "auto":
            self.link.end_of_stream()
        else:
            self.link.activity_end()
        try:
            await asyncio.wait_for(self._settled.wait(), self.policy.end_wait_s)
        except TimeoutError:
            log.info("end_wait_over", extra={"session": self.key})

    @property
    def settled(self) -> bool:
        """Everything that was said has been answered."""
        return self._settled.is_set()

    async def wait_settled(self, timeout_s: float) -> None:
        """Raises TimeoutError."""
        await asyncio.wait_for(self._settled.wait(), timeout_s)

    def _save_soon(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self.save())

    async def save(self) -> None:
        """Writes the record as it is now; a store that fails is noted, not raised."""
        self.record = self.view()
        await self._save()

    # Connections

    def attach(self, attachment: Attachment) -> None:
        self.attachments.append(attachment)
        if not attachment.observer:
            self.socket_used = True
            self.detached_s = None

    def new_resume_token(self) -> str:
        """What a client that is attached can resume with; older tokens are void."""
        token = secrets.token_urlsafe(32)
        self.record = replace(self.record, resume_token_hash=_hashed(token))
        self._save_soon()
        return token

    def resume(self, attachment: Attachment, token: str, last_seq: int) -> Resumption:
        """Attaches again in the place of whoever is attached, who is told `session_replaced`.

        Raises:
            ResumeRefused: not the newest token.
        """
        self.check_alive()
        if not hmac.compare_digest(_hashed(token), self.record.resume_token_hash):
            raise ResumeRefused
        for other in [other for other in self.attachments if not other.observer]:
            self.attachments.remove(other)
            self.release_uplink(other)
            other.session_closed(SessionReplaced())
        self.attach(attachment)
        missed, gap = self.log.since(last_seq)
        return Resumption(self.new_resume_token(), missed, gap)

    def announce(self, notice: Notice) -> None:
        """Tells every reader something that belongs to no turn."""
        self._emit(notice)

    def detach(self, attachment: Attachment) -> None:
        if attachment in self.attachments:
            self.attachments.remove(attachment)
        if self.socket_used and all(other.observer for other in self.attachments):
            self.detached_s = time.monotonic()

    def claim_uplink(self, sender: object) -> None:
        """One connection sends audio at a time.

        Raises:
            UplinkBusy: another one has sent within the last 5 s.
        """
        now_s = time.monotonic()
        if self._uplink is not None:
            holder, last_s = self._uplink
            if holder is not sender and now_s - last_s < UPLINK_HOLD_S:
                raise UplinkBusy
        self._uplink = (sender, now_s)

    def release_uplink(self, sender: object) -> None:
        if self._uplink is not None and self._uplink[0] is sender:
            self._uplink = None

    # The way in

    def feed(self, chunk: Chunk) -> None:
        """Takes a chunk; `chunk.done` tells how it went.

        Raises:
            SessionEnded, SessionExpired: the session is over.
            AudioTooFast: too much is waiting already.
            RateLimited: the caller's audio is used up.
        """
        self.check_alive()
        self._check_limit()
        self.touch()
        self._uncounted_bytes += len(chunk.data)
        self.intake.offer(chunk)

    def send_text(self, text: str) -> None:
        """A user turn in writing. Raises as `feed`."""
        self.check_alive()
        self.touch()
        self.intake.after_queued(lambda: self._send_text(text))

    def end_utterance(self) -> None:
        """`flush`: what was said is complete; the model is to answer now. Raises as `feed`."""
        self.check_alive()
        self.touch()
        self.intake.after_queued(self.link.end_of_stream)

    def activity_start(self) -> None:
        """Push to talk: the user begins to speak. Raises as `feed`."""
        self.check_alive()
        self.touch()
        self.intake.after_queued(self.link.activity_start)

    def activity_end(self) -> None:
        """Push to talk: the user has spoken. Raises as `feed`."""
        self.check_alive()
        self.touch()
        self.intake.after_queued(self.link.activity_end)

    def cancel_reply(self) -> None:
        """Stops the reply that is under way; what it still says is dropped."""
        self.check_alive()
        self.touch()
        exchange = self.transcript.open
        if exchange is not None and not exchange.cancelled:
            exchange.cancelled = True
            self._pacer.drop()
            self._emit(Notice("interrupted", {"turnId": exchange.id}))

    def touch(self) -> None:
        self.last_activity_s = time.monotonic()

    def check_alive(self) -> None:
        """Raises SessionEnded, SessionExpired, or what else ended the session, when it is over."""
        if self.remaining_s <= 0:
            self.close("expired", SessionExpired())
        if not self.alive:
            raise self._closing_error or ending_error(self.record)

    def _send_audio(self, pcm: bytes, seq: int | None) -> None:
        if pcm:
            self._last_audio_s = time.monotonic()
            self._settled.clear()
            self._count_audio(TARGET.seconds(len(pcm)))
            self.link.send_audio(pcm, mark=seq)
        elif seq is not None:
            self._on_link_event(AudioDelivered(seq))

    # What it uses

    def _count_audio(self, seconds: float) -> None:
        self._uncounted_s += seconds
        if self._uncounted_s >= COUNT_EVERY_S and self.meter is not None:
            seconds, self._uncounted_s = self._uncounted_s, 0.0
            size, self._uncounted_bytes = self._uncounted_bytes, 0
            self._count(self.meter.count_audio(seconds, size))

    def _count(self, counting: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(self._counted(counting))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def _counted(self, counting: Coroutine[None, None, None]) -> None:
        try:
            await counting
        except RateLimited as exc:
            self._over_limit = (exc, time.monotonic() + (exc.retry_after_s or 0))

    def _check_limit(self) -> None:
        if self._over_limit is None:
            return
        refusal, until_s = self._over_limit
        if time.monotonic() < until_s:
            raise refusal
        self._over_limit = None

    def _send_text(self, text: str) -> None:
        exchange = self._exchange()
        exchange.input_text += text
        exchange.input_ended_ms = self.now_ms
        self._settled.clear()
        self._emit(ExchangeUpdate.of(exchange))
        self.link.send_text(text)

    def _report_lost(self, first: int, last: int) -> None:
        self._emit(Notice("audio_gap", {"from": first, "to": last}))

    # The way out

    def _on_link_event(self, event: LinkEvent) -> None:
        """Events wait while a turn is being committed, so that the client reads all in order."""
        if self._committing is not None:
            if isinstance(event, Interrupted):
                self._pacer.drop()
            self._held.append(event)
        else:
            self._apply(event)

    def _apply(self, event: LinkEvent) -> None:
        match event:
            case AudioDelta(pcm):
                self._hear_reply(pcm)
            case InterimInputTranscript(text):
                exchange = self._exchange()
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
            case TurnComplete(reason, idle):
                self._turn_complete(reason, idle)
            case Usage():
                self._add_usage(event)
            case ResumptionHandle(handle):
                if handle is not None:
                    self.record = replace(self.record, handle=handle, handle_at=time.time())
            case AudioDelivered(mark):
                self._emit(Notice("audio_ack", {"seq": mark}))
            case LinkReady():
                self._became_active()
            case LinkReconnecting(attempt, reason):
                self._emit(Notice("upstream_reconnecting", {"attempt": attempt, "reason": reason}))
            case LinkRotated(gap_ms, resumed):
                self._emit(Notice("upstream_rotated", {"gapMs": gap_ms, "resumed": resumed}))
            case TurnFailed(reason):
                self._emit(Notice("turn_failed", {"reason": reason, "turnId": self._open_id}))
                self._close_exchange(interrupted=False)
            case LinkFailed(error):
                self.rest.fail_all(error)
                self.close("failed", error)
            case GenerationComplete():
                self._generation_complete()
            case GoAway():
                pass

    @property
    def _open_id(self) -> str | None:
        return self.transcript.open.id if self.transcript.open is not None else None

    def _became_active(self) -> None:
        if self.record.status == "connecting":
            self.record = replace(self.record, status="active")

    def _exchange(self) -> Exchange:
        self._settled.clear()
        return self.transcript.exchange(self.now_ms)

    def _hear_user(self, text: str) -> None:
        if not text:
            return
        exchange = self._exchange()
        exchange.interim = ""
        exchange.input_text += text if exchange.input_text else text.lstrip()
        exchange.input_ended_ms = self.now_ms
        if self.options.input_transcription:
            self.rest.add_input(exchange.id, text)
            self._emit(ExchangeUpdate.of(exchange))

    def _reply(self) -> Exchange | None:
        """The exchange that the model's output belongs to; None when it is not wanted any more."""
        exchange = self._exchange()
        if exchange.cancelled:
            return None
        if exchange.reply_started_ms is None:
            exchange.reply_started_ms = self.now_ms
        return exchange

    def _hear_reply(self, pcm: bytes) -> None:
        exchange = self._reply()
        if exchange is None or self.options.modality == "text":
            return
        if self.options.audio_delivery == "stream":
            self._pacer.add(exchange, pcm)
        else:
            exchange.audio.append(pcm)

    def _read_reply(self, text: str, *, written: bool) -> None:
        exchange = self._reply()
        if exchange is None or not text:
            return
        if not exchange.reply_text:
            text = text.lstrip()
        if written:
            exchange.written += text
        else:
            exchange.spoken += text
        if self.shows_reply_text:
            self.rest.add_reply(exchange.id, text)
            self._emit(ExchangeUpdate.of(exchange))

    @property
    def shows_reply_text(self) -> bool:
        """In the audio modality the reply's text is its transcription, which can be hidden."""
        return self.options.output_transcription or self.options.modality == "text"

    def _interrupted(self) -> None:
        self._pacer.drop()
        exchange = self.transcript.open
        if exchange is None or not exchange.cancelled:
            self._emit(Notice("interrupted", {"turnId": exchange.id if exchange else self._last_exchange_id}))
        if exchange is not None:
            self._await_interrupted_turn = True
            self._close_exchange(interrupted=True)

    def _turn_complete(self, reason: str | None, idle: bool) -> None:
        exchange = self.transcript.open
        of_interrupted, self._await_interrupted_turn = self._await_interrupted_turn, False
        if of_interrupted and (exchange is None or not exchange.has_reply):
            return
        if not idle:
            return
        if exchange is None:
            self._settle()
            return
        if reason is not None:
            self._emit(Notice("turn_failed", {"reason": reason.lower(), "turnId": exchange.id}))
        self._close_exchange(interrupted=exchange.cancelled)

    def _generation_complete(self) -> None:
        """The model's turn lasts as long as its playback would; who is leaving does not wait for that."""
        exchange = self.transcript.open
        if self._ending and exchange is not None:
            asyncio.get_running_loop().call_later(LATE_TRANSCRIPT_S, self._close_if_open, exchange)

    def _close_if_open(self, exchange: Exchange) -> None:
        if self.transcript.open is exchange:
            self._close_exchange(interrupted=exchange.cancelled)

    def _close_exchange(self, *, interrupted: bool) -> None:
        if self.transcript.open is None:
            return
        exchange, turns = self.transcript.close(self.key, self.now_ms, interrupted=interrupted)
        self._last_exchange_id = exchange.id
        self._committing = asyncio.create_task(self._commit(exchange, turns, interrupted))

    async def _commit(self, exchange: Exchange, turns: list[TurnRecord], interrupted: bool) -> None:
        """A turn is in the store before it is announced final."""
        try:
            if turns:
                await self.store.put_turns(turns)
                await self.store.put_session(self.view())
                self.store_failed = False
        except StoreUnavailable:
            self._store_failed()
        await self._pacer.played(exchange)
        audio, exchange.audio = b"".join(exchange.audio), []
        self._emit(ExchangeUpdate.of(exchange, final=True, audio=audio))
        if not interrupted:
            self._emit(Notice("turn_complete", {"turnId": exchange.id, "latency": _latency(exchange)}))
        self._committing = None
        if not interrupted:
            self._settle()
        self.rest.exchange_ended(audio, completed=not interrupted)
        held, self._held = self._held, []
        for event in held:
            self._on_link_event(event)

    def _settle(self) -> None:
        """A turn is complete. Audio that came shortly before may hold the beginning of the next one."""
        fresh = self._last_audio_s is not None and time.monotonic() - self._last_audio_s < FRESH_AUDIO_S
        if self.transcript.open is None and (self._ending or not fresh):
            self._settled.set()

    def _add_usage(self, usage: Usage) -> None:
        total = dict(self.record.usage)
        for name in ("prompt_tokens", "response_tokens", "thoughts_tokens", "total_tokens"):
            total[name] = total.get(name, 0) + getattr(usage, name)
        self.record = replace(self.record, usage=total)
        if self.meter is not None:
            self._count(self.meter.count_tokens(usage.total_tokens))
        self._emit(
            Notice(
                "usage",
                {
                    "promptTokens": usage.prompt_tokens,
                    "responseTokens": usage.response_tokens,
                    "thoughtsTokens": usage.thoughts_tokens,
                    "totalTokens": usage.total_tokens,
                    "session": {
                        "promptTokens": total["prompt_tokens"],
                        "responseTokens": total["response_tokens"],
                        "totalTokens": total["total_tokens"],
                    },
                },
            )
        )

    def _emit_reply_audio(self, exchange: Exchange, pcm: bytes) -> None:
        self._emit(ReplyAudio(exchange, pcm))

    def _emit(self, body: EventBody) -> None:
        event = self.log.append(body, time.monotonic())
        if event.seq % (RESERVED_SEQS // 2) == 0:
            self._save_soon()
        for attachment in self.attachments:
            attachment.deliver(event)

    # The store

    async def _save(self) -> None:
        try:
            await self.store.put_session(self.record)
            self.store_failed = False
        except StoreUnavailable:
            self._store_failed()

    def _store_failed(self) -> None:
        if not self.store_failed:
            log.warning("store_unavailable", extra={"session": self.key})
        self.store_failed = True


def ending_error(record: SessionRecord) -> LiveError:
    """What a client is told that uses a session which is over."""
    if record.status == "expired":
        return SessionExpired()
    if record.status == "failed":
        return SessionEnded("This session ended because the speech model failed; start a new one.")
    if record.end_reason == InactivityTimeout.code:
        return InactivityTimeout()
    return SessionEnded()


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _latency(exchange: Exchange) -> dict[str, int | None]:
    """ms from the user's last word to the reply's first sign, and to its end."""
    said_ms = exchange.input_ended_ms
    if said_ms is None or exchange.reply_started_ms is None or exchange.ended_ms is None:
        return {"firstReplyMs": None, "completeMs": None}
    return {
        "firstReplyMs": max(0, exchange.reply_started_ms - said_ms),
        "completeMs": max(0, exchange.ended_ms - said_ms),
    }
