"""One conversation's way to the model, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from tornado_live.audio import TARGET, is_loud
from tornado_live.errors import UpstreamError, UpstreamUnavailable
from tornado_live.upstream.base import (
    AudioDelivered,
    ConnectionEvent,
    Connector,
    GoAway,
    HistoryTurn,
    LinkEvent,
    LinkFailed,
    LinkReady,
    LinkReconnecting,
    LinkRotated,
    ResumptionHandle,
    TurnComplete,
    UpstreamConnection,
    UpstreamSetup,
)
from tornado_live.upstream.closing import ConnectionClosed
from tornado_live.upstream.dialling import Outage
from tornado_live.upstream.models import ModelProfile, adapt
from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.rotation import Rotation
from tornado_live.upstream.silence import TrailingSilence
from tornado_live.upstream.turns import Turns
from tornado_live.upstream.uplink import Audio, Signal, Text, Uplink, silence

log = logging.getLogger(__name__)

_LOOK_FOR_QUIET_S = 0.1
_LAST_WORDS_S = 1.0
"""A connection that takes nothing any more may still hold messages that it has received."""


class Link:
    """One logical connection. All its use is on one event loop.

    `on_event` is called with every `LinkEvent`, in order, synchronously, from the link's own tasks. A
    `TurnFailed` is always followed by a `TurnComplete`; a `LinkFailed` is the last event.

    Args:
        setup: adapted to the model here, if it is not yet.
        history: what was said so far, to seed a fresh connection with.
        handle: resume the conversation that this handle stands for.

    Raises:
        InvalidField: the model does not take this set-up.
    """

    def __init__(
        self,
        connector: Connector,
        setup: UpstreamSetup,
        profile: ModelProfile,
        on_event: Callable[[LinkEvent], None],
        *,
        policy: LinkPolicy = LinkPolicy(),
        history: Callable[[], Sequence[HistoryTurn]] = tuple,
        handle: str | None = None,
    ) -> None:
        self._connector = connector
        self._setup = adapt(setup, profile)
        self._profile = profile
        self._emit = on_event
        self._policy = policy
        self._history = history
        self._handle = handle
        self._resumable = True
        self._uplink = Uplink(policy)
        self._turns = Turns(policy, self._uplink, may_stay_silent=profile.may_stay_silent)
        self._silence = TrailingSilence(
            policy, needs_silence=profile.needs_trailing_audio, enabled=setup.turn_detection == "auto"
        )
        self._outage = Outage(policy)
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._was_ready = False
        self._connected = False
        self._stopped = False
        self._closed_at = 0.0
        self._rotation: Rotation
        self._told_to_go: asyncio.Future[None]
        self._error: UpstreamError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def handle(self) -> str | None:
        """The newest handle to resume by."""
        return self._handle

    @property
    def connected(self) -> bool:
        """A connection is set up."""
        return self._connected

    @property
    def backlog_s(self) -> float:
        """Seconds of audio queued and not yet sent."""
        return self._uplink.backlog_s

    def start(self) -> None:
        """Begins to dial. To be called once, on the event loop."""
        self._task = asyncio.create_task(self._run(), name="upstream-link")

    async def wait_ready(self, timeout_s: float) -> bool:
        """True: set up; False: still connecting, or stopped.

        Raises:
            UpstreamError: refused, or given up.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            return False
        if self._error is not None:
            raise self._error
        return self._was_ready

    def send_audio(self, pcm: bytes, *, mark: int | None = None) -> None:
        """Queues `TARGET` samples of any length; `AudioDelivered(mark)` follows when the socket has them.

        Raises:
            AudioTooFast: `max_backlog_s` of audio is waiting; none of this is kept.
        """
        if self._stopped:
            return
        self._uplink.put_audio(pcm, mark)
        if pcm:
            self._silence.audio(self._now(), TARGET.seconds(len(pcm)))
        self._work.set()

    def send_text(self, text: str) -> None:
        """Queues a user turn in writing."""
        self._put(Text(text))

    def activity_start(self) -> None:
        """Manual turn detection: the user begins to speak."""
        self._put(Signal.ACTIVITY_START)

    def activity_end(self) -> None:
        """Manual turn detection: the user has spoken."""
        self._put(Signal.ACTIVITY_END)

    def end_of_stream(self) -> None:
        """The utterance is over: whatever it takes to get it answered follows the queued audio."""
        self._put(Signal.END_OF_STREAM)

    def _put(self, item: Text | Signal) -> None:
        if not self._stopped:
            self._uplink.put(item)
            self._work.set()

    async def stop(self) -> None:
        """Ends the link; the socket is closed when this returns. May be called more than once."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._settled.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        try:
            await self._keep_connected()
        except UpstreamError as error:
            self._fail(error)
        except Exception:
            log.exception("A link failed by a fault of this server.")
            self._fail(UpstreamUnavailable())

    def _fail(self, error: UpstreamError) -> None:
        self._stopped = True
        self._error = error
        self._settled.set()
        self._emit(LinkFailed(error))

    async def _keep_connected(self) -> None:
        while True:
            handle = self._handle
            history = () if handle is not None else self._seed()
            self._outage.dialled(self._now())
            try:
                # The SDK wants its connections entered and left by one task.
                async with self._connector.connect(
                    self._setup, handle=handle, seeded=bool(history)
                ) as connection:
                    if history:
                        await connection.send_history(history)
                    self._take_over(resumed=handle is not None)
                    stalled = await self._serve(connection)
                if stalled:
                    self._emit(LinkReconnecting(1, "stalled"))
            except UpstreamError as error:
                await self._recover(error, resuming=handle is not None)

    def _seed(self) -> tuple[HistoryTurn, ...]:
        """The history, without a turn that is about to be said again."""
        turns = tuple(self._history())
        said_next = self._uplink.head() if self._uplink else None
        if turns and turns[-1].role == "user" and said_next == Text(turns[-1].text):
            return turns[:-1]
        return turns

    def _take_over(self, *, resumed: bool) -> None:
        now = self._now()
        self._outage.connected(now)
        self._rotation = Rotation(self._policy, opened_at=now, max_age_s=self._profile.max_connection_age_s)
        self._connected = True
        self._resumable = True
        if self._was_ready:
            self._emit(LinkRotated(round((now - self._closed_at) * 1000), resumed))
        else:
            self._was_ready = True
            self._settled.set()
            self._emit(LinkReady())

    async def _recover(self, error: UpstreamError, *, resuming: bool) -> None:
        """Waits until the next dial. Raises UpstreamError when there is none."""
        redial = self._outage.next(error, resuming=resuming, now=self._now())
        if redial.fresh:
            self._handle = None
        if self._was_ready:
            reason = str(error.ws_code) if isinstance(error, ConnectionClosed) else error.code
            self._emit(LinkReconnecting(redial.attempt, reason))
        await asyncio.sleep(redial.delay_s)

    async def _serve(self, connection: UpstreamConnection) -> bool:
        """Uses the connection until another should take over; True: because the model has stalled."""
        self._told_to_go = asyncio.get_running_loop().create_future()
        reader = asyncio.create_task(self._read(connection), name="upstream-reader")
        writer = asyncio.create_task(self._write(connection), name="upstream-writer")
        try:
            return await self._watch(reader, writer)
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._leave()

    def _leave(self) -> None:
        self._connected = False
        self._closed_at = self._now()
        self._resumable = True
        if self._stopped:
            return
        events, said_again = self._turns.lost(self._closed_at)
        if said_again:
            self._silence.heard_again(self._closed_at)
        for event in events:
            self._emit(event)

    async def _watch(self, reader: asyncio.Task[None], writer: asyncio.Task[None]) -> bool:
        watched: set[asyncio.Future[None]] = {reader, writer, self._told_to_go}
        while True:
            done, _ = await asyncio.wait(
                watched, timeout=self._look_again_in_s(), return_when=asyncio.FIRST_COMPLETED
            )
            watched -= {self._told_to_go} & done
            if writer in done and reader not in done:
                await asyncio.wait({reader}, timeout=_LAST_WORDS_S)
            for task in (reader, writer):
                if task.done():
                    task.result()
            now = self._now()
            quiet = self._resumable and not self._uplink and self._turns.quiet(now)
            if self._rotation.due(now, quiet=quiet):
                return False
            stall = self._turns.stalled(now)
            if stall is not None:
                for event in stall.events:
                    self._emit(event)
                if stall.redial:
                    return True

    def _look_again_in_s(self) -> float:
        wanted_in_s = self._rotation.wanted_at - self._now()
        return _LOOK_FOR_QUIET_S if wanted_in_s <= 0 else min(wanted_in_s, self._policy.stall_s / 5)

    async def _read(self, connection: UpstreamConnection) -> None:
        async for events in connection.receive():
            now = self._now()
            self._turns.sign_of_life(now)
            for event in events:
                self._take(event, now)
        raise ConnectionClosed(1006)

    def _take(self, event: ConnectionEvent, now: float) -> None:
        match event:
            case GoAway():
                self._rotation.go_away(now, event.time_left_s)
                if not self._told_to_go.done():
                    self._told_to_go.set_result(None)
                return
            case ResumptionHandle():
                self._resumable = event.handle is not None
                if event.handle is None:
                    return
                self._handle = event.handle
            case TurnComplete() if event.idle and not self._turns.interrupted:
                self._silence.turn_complete()
        for told in self._turns.take(event, now):
            self._emit(told)
        if self._uplink:
            self._work.set()

    async def _write(self, connection: UpstreamConnection) -> None:
        while True:
            while self._uplink:
                await self._send_head(connection)
            due_in_s = self._silence.due_in(self._now())
            if due_in_s == 0.0:
                await self._send_silence(connection)
                continue
            self._work.clear()
            try:
                async with asyncio.timeout(due_in_s):
                    await self._work.wait()
            except TimeoutError:
                pass

    async def _send_head(self, connection: UpstreamConnection) -> None:
        item = self._uplink.head()
        loud = False
        match item:
            case Audio():
                if item.pcm:
                    loud = is_loud(item.pcm)
                    await connection.send_audio(item.pcm)
            case Text():
                await connection.send_text(item.text)
            case Signal.ACTIVITY_START:
                await connection.send_activity_start()
            case Signal.ACTIVITY_END:
                await connection.send_activity_end()
            case Signal.END_OF_STREAM:
                self._silence.end_of_stream(self._now())
                # Before anything that is queued behind it: that is another utterance.
                while self._silence.due_in(self._now()) == 0.0:
                    await self._send_silence(connection)
        self._uplink.pop_sent(loud=loud)
        self._turns.sent(item, self._now(), loud=loud)
        if isinstance(item, Audio) and item.mark is not None:
            self._emit(AudioDelivered(item.mark))

    async def _send_silence(self, connection: UpstreamConnection) -> None:
        piece_s = self._silence.take(self._now())
        if piece_s is not None:
            await connection.send_audio(silence(piece_s))
        elif self._profile.honours_audio_stream_end:
            await connection.send_audio_stream_end()
