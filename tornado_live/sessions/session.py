"""One conversation, independent of any connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tornado_live.audio import TARGET
from tornado_live.errors import (
    ExtensionRefused,
    InactivityTimeout,
    LiveError,
    SessionEnded,
    SessionExpired,
)
from tornado_live.sessions.clock import SessionClock
from tornado_live.sessions.delivery import RestDelivery
from tornado_live.sessions.events import Event, EventBody, EventLog, Notice
from tornado_live.sessions.exchanges import Exchanges
from tornado_live.sessions.intake import Chunk, Codecs, Intake, IntakePolicy
from tornado_live.sessions.metering import Metering
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.readers import Attachment, Readers, ResumeTokens
from tornado_live.sessions.transcript import Transcript
from tornado_live.store.base import SessionRecord, SessionStatus, Store, TurnRecord
from tornado_live.upstream.base import (
    AudioDelivered,
    GoAway,
    HistoryTurn,
    LinkEvent,
    LinkFailed,
    LinkReady,
    LinkReconnecting,
    LinkRotated,
    ResumptionHandle,
    UpstreamLink,
    Usage,
)

log = logging.getLogger(__name__)

RESERVED_SEQS = 1000
HANDLE_SAVED_EVERY_S = 30.0

MakeLink = Callable[[Callable[[LinkEvent], None], Callable[[], list[HistoryTurn]], str | None], UpstreamLink]
"""(on_event, history, handle) → the session's link, not yet started."""


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
    replay_window_s: float = 12.0


class Session:
    """A conversation: takes in chunks and text, tells what the model says, keeps the ledger.

    Made by the registry, which also ends it. All methods belong to one event loop.

    Args:
        store: its writes must be quick and must not fail (`store.behind`).
        turns: what was said while an earlier process held the session.
    """

    def __init__(
        self,
        record: SessionRecord,
        options: SessionOptions,
        *,
        policy: SessionPolicy,
        codecs: Codecs,
        store: Store,
        make_link: MakeLink,
        turns: list[TurnRecord] | None = None,
    ) -> None:
        self.record = record
        self.options = options
        self.policy = policy
        self.transcript = Transcript(turns)
        self.log = EventLog(last_seq=record.last_seq, max_age_s=policy.replay_window_s)
        self.rest = RestDelivery(wait_s=policy.transcribe_wait_s, max_s=policy.transcribe_max_s)
        self.readers = Readers()
        self.metering = Metering()
        self.intake = Intake(
            codecs,
            policy.intake,
            self._send_audio,
            self._report_lost,
            self._acknowledge_again,
            init_segment=record.init_segment,
            first_seq=0 if record.epoch == 1 else None,
        )
        self.link = make_link(self._on_link_event, self.transcript.history, record.handle)
        self.last_activity_s = time.monotonic()
        self.closing: asyncio.Task[SessionRecord] | None = None
        self.closed_callbacks: list[Callable[[Session], None]] = []
        self._store = store
        self._tokens = ResumeTokens(record.resume_token_hash, record.previous_token_hash)
        self._clock = SessionClock(record.started_at, record.expires_at, self._warn, self._expire)
        self._exchanges = Exchanges(
            record.key,
            options,
            self.transcript,
            self.rest,
            output_lead_s=policy.output_lead_s,
            commit=self._commit,
            now_ms=lambda: self.now_ms,
            emit=self._emit,
        )
        self._handle_saved_s = float("-inf")
        self._saving: asyncio.Task[None] | None = None
        self._closing_error: LiveError | None = None
        self._opening = False
        self._acknowledged: int | None = None

    # What it is

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def label(self) -> str:
        return self.record.label

    @property
    def status(self) -> SessionStatus:
        if self.record.status == "active" and self.readers.left_s is not None:
            return "detached"
        return self.record.status

    @property
    def alive(self) -> bool:
        return self.closing is None and self.record.status in ("connecting", "active")

    @property
    def now_ms(self) -> int:
        """The session's clock: ms since it was started."""
        return self._clock.now_ms

    @property
    def remaining_s(self) -> float:
        """Seconds until it expires."""
        return self._clock.remaining_s

    @property
    def busy(self) -> bool:
        """Somebody speaks, or a reply is under way."""
        return self._exchanges.busy

    @property
    def settled(self) -> bool:
        """Everything that was said has been answered."""
        return self._exchanges.settled

    async def wait_settled(self, timeout_s: float) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._exchanges.wait_settled()

    def view(self) -> SessionRecord:
        """The record as it is at this moment."""
        idle_s = time.monotonic() - self.last_activity_s
        return replace(
            self.record,
            status=self.status,
            last_activity_at=time.time() - idle_s,
            last_seq=self.log.last_seq + RESERVED_SEQS,
            init_segment=self.intake.init_segment,
            resume_token_hash=self._tokens.newest,
            previous_token_hash=self._tokens.previous,
        )

    # Life

    async def open(self, wait_s: float) -> None:
        """Starts the link and waits for it, `wait_s` at the most; the status tells how far it is.

        Raises:
            UpstreamError: refused.
        """
        self._clock.start()
        self._opening = True
        self.link.start()
        if await self.link.wait_ready(wait_s):
            self._became_active()
        self._opening = False

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

    def suspend(self, error: LiveError) -> asyncio.Task[SessionRecord]:
        """Lets go of everything but the record, so that the conversation can be gone on with elsewhere."""
        if self.closing is None:
            self._closing_error = error
            self.closing = asyncio.create_task(self._close("detached", error))
        return self.closing

    async def discard(self) -> None:
        """Lets go of a session that could not be opened."""
        await self._let_go()

    def extend(self, by_s: float, max_duration_s: float) -> None:
        """Moves the end by `by_s`, so that the session lasts `max_duration_s` at the most.

        Raises:
            ExtensionRefused: it lasts that long already.
        """
        self.check_alive()
        expires_at = min(self.record.expires_at + by_s, self.record.started_at + max_duration_s)
        if expires_at <= self.record.expires_at:
            raise ExtensionRefused
        self._clock.move_end(expires_at - self.record.expires_at)
        self.record = replace(self.record, expires_at=expires_at)
        self.metering.prolong(self.key, self.remaining_s)
        self._save_soon()

    def _warn(self, before_end_s: float) -> None:
        self._emit(Notice("session_expiring", {"inMs": int(before_end_s * 1000)}))

    def _expire(self) -> None:
        self.close("expired", SessionExpired())

    def _tell_closed(self, _: object) -> None:
        for callback in self.closed_callbacks:
            callback(self)

    async def _close(self, status: SessionStatus, error: LiveError | None) -> SessionRecord:
        if error is None:
            await self._finish_exchange()
        await self._let_go()
        self.record = replace(self.view(), status=status)
        if status == "detached":
            assert error is not None
            self.rest.fail_all(error)
        else:
            reason = error.code if error is not None else None
            self.record = replace(self.record, ended_at=time.time(), end_reason=reason)
            self.rest.release_all()
        await self._store.put_session(self.record)
        self.readers.close(error)
        return self.record

    async def _let_go(self) -> None:
        """Stops everything that runs; what was said so far is committed."""
        self._clock.stop()
        self.intake.close(self._closing_error)
        self._exchanges.drop_audio()
        await self.link.stop()
        await self._exchanges.close()
        if self._saving is not None:
            await asyncio.wait([self._saving])
        await self.metering.close(self.key)

    async def _finish_exchange(self) -> None:
        """Has everything that was said answered, within `end_wait_s`."""
        try:
            await self.intake.finish()
        except LiveError as exc:
            log.info("last_audio_not_decodable", extra={"session": self.key, "code": exc.code})
        self._exchanges.finish()
        if self.settled:
            return
        self._end_of_speech()
        try:
            await self.wait_settled(self.policy.end_wait_s)
        except TimeoutError:
            log.info("end_wait_over", extra={"session": self.key})

    # The store

    async def save(self) -> None:
        """Writes the record as it is now."""
        await self._store.put_session(self.view())

    def _save_soon(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self.save())

    async def _commit(self, turns: Sequence[TurnRecord]) -> None:
        await self._store.put_turns(turns)
        await self.save()
        self._handle_saved_s = float("-inf")

    # Connections

    def attach(self, attachment: Attachment) -> None:
        self.readers.attach(attachment)

    def detach(self, attachment: Attachment) -> None:
        self.readers.detach(attachment)

    async def new_resume_token(self) -> str:
        """What a client can come back with; older tokens are void. It outlives this process."""
        token = self._tokens.rotate()
        await self.save()
        return token

    async def resume(self, attachment: Attachment, token: str, last_seq: int) -> Resumption:
        """Attaches again in the place of whoever is attached, who is told `session_replaced`.

        Raises:
            ResumeRefused: not the newest token.
            SessionEnded, SessionExpired: the session is over.
        """
        self.check_alive()
        self._tokens.check(token)
        newest = self._tokens.rotate(token)
        await self.save()
        self.check_alive()
        self.last_activity_s = time.monotonic()
        self.readers.replace_by(attachment)
        missed, gap = self.log.since(last_seq)
        return Resumption(newest, missed, gap)

    def announce(self, notice: Notice) -> None:
        """Tells every reader something that belongs to no turn."""
        self._emit(notice)

    def claim_uplink(self, sender: object) -> None:
        """One connection sends audio at a time. Raises UplinkBusy."""
        self.readers.claim_uplink(sender)

    def release_uplink(self, sender: object) -> None:
        self.readers.release_uplink(sender)

    def acknowledge(self, seq: int) -> None:
        """The client has every event up to `seq`."""
        self._tokens.confirm()
        self.log.acknowledge(seq)

    # The way in

    def feed(self, chunk: Chunk) -> None:
        """Takes a chunk; `chunk.done` tells how it went.

        Raises:
            SessionEnded, SessionExpired: the session is over.
            AudioTooFast: too much is waiting already.
            RateLimited: the caller's audio is used up.
        """
        self.check_alive()
        self.metering.check()
        self.touch()
        self.metering.received(len(chunk.data))
        self.intake.offer(chunk)

    def send_text(self, text: str) -> None:
        """A user turn in writing. Raises as `feed`."""
        self._after_audio(lambda: self._send_text(text))

    def end_utterance(self) -> None:
        """`flush`: what was said is complete; the model is to answer now. Raises as `feed`."""
        self._after_audio(self._end_of_speech)

    def activity_start(self) -> None:
        """Push to talk: the user begins to speak. Raises as `feed`."""
        self._after_audio(self.link.activity_start)

    def activity_end(self) -> None:
        """Push to talk: the user has spoken. Raises as `feed`."""
        self._after_audio(self.link.activity_end)

    def cancel_reply(self) -> None:
        """Stops the reply that is under way; what it still says is dropped."""
        self.check_alive()
        self.touch()
        self._exchanges.cancel()

    def played(self, turn_id: str, played_ms: int) -> None:
        """The user has heard so much of the reply's voice."""
        self.check_alive()
        self.touch()
        self._exchanges.played(turn_id, played_ms)

    def touch(self) -> None:
        """The client is there."""
        self.last_activity_s = time.monotonic()
        self._tokens.confirm()

    def check_alive(self) -> None:
        """Raises SessionEnded, SessionExpired, or what else ended the session, when it is over."""
        if self.remaining_s <= 0:
            self._expire()
        if not self.alive:
            raise self._closing_error or ending_error(self.record)

    def _after_audio(self, action: Callable[[], None]) -> None:
        self.check_alive()
        self.touch()
        self.intake.after_queued(action)

    def _send_audio(self, pcm: bytes, seq: int | None) -> None:
        if pcm:
            self._exchanges.audio_sent(pcm)
            self.metering.decoded(TARGET.seconds(len(pcm)))
        self.link.send_audio(pcm, mark=seq)

    def _end_of_speech(self) -> None:
        if self.options.turn_detection == "manual":
            self.link.activity_end()
        else:
            self.link.end_of_stream()

    def _send_text(self, text: str) -> None:
        self._exchanges.written(text)
        self.link.send_text(text)

    def _report_lost(self, first: int, last: int) -> None:
        self._emit(Notice("audio_gap", {"from": first, "to": last}))

    def _acknowledge_again(self, seq: int) -> None:
        """A client that sends a chunk again has not read that it arrived."""
        if self._acknowledged is not None and seq <= self._acknowledged:
            self._emit(Notice("audio_ack", {"seq": self._acknowledged}))

    # The way out

    def _on_link_event(self, event: LinkEvent) -> None:
        match event:
            case ResumptionHandle(handle):
                if handle is not None:
                    self._take_handle(handle)
            case AudioDelivered(mark):
                self._acknowledged = mark
                self._emit(Notice("audio_ack", {"seq": mark}))
            case LinkReady():
                self._became_active()
            case LinkReconnecting(attempt, reason):
                self._emit(Notice("upstream_reconnecting", {"attempt": attempt, "reason": reason}))
            case LinkRotated(gap_ms, resumed):
                self._emit(Notice("upstream_rotated", {"gapMs": gap_ms, "resumed": resumed}))
            case LinkFailed(error):
                # While it is being opened, `open` raises it and nothing is left to close.
                if not self._opening:
                    self.rest.fail_all(error)
                    self.close("failed", error)
            case Usage():
                self._add_usage(event)
            case GoAway():
                pass
            case _:
                self._exchanges.apply(event)

    def _became_active(self) -> None:
        if self.record.status == "connecting":
            self.record = replace(self.record, status="active")

    def _take_handle(self, handle: str) -> None:
        """The first handle after a turn stands for a conversation that has it: it is saved at once."""
        self.record = replace(
            self.record, handle=handle, handle_at=time.time(), handle_turns=len(self.transcript.turns)
        )
        now_s = time.monotonic()
        if now_s - self._handle_saved_s >= HANDLE_SAVED_EVERY_S:
            self._handle_saved_s = now_s
            self._save_soon()

    def _add_usage(self, usage: Usage) -> None:
        total = dict(self.record.usage)
        for name in ("prompt_tokens", "response_tokens", "thoughts_tokens", "total_tokens"):
            total[name] = total.get(name, 0) + getattr(usage, name)
        self.record = replace(self.record, usage=total)
        self.metering.tokens(usage.total_tokens)
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

    def _emit(self, body: EventBody) -> None:
        event = self.log.append(body, time.monotonic())
        if event.seq % (RESERVED_SEQS // 2) == 0:
            self._save_soon()
        self.readers.deliver(event)


def ending_error(record: SessionRecord) -> LiveError:
    """What a client is told that uses a session which is over."""
    if record.status == "expired":
        return SessionExpired()
    if record.status == "failed":
        return SessionEnded("This session ended because the speech model failed; start a new one.")
    if record.end_reason == InactivityTimeout.code:
        return InactivityTimeout()
    return SessionEnded()
