"""A link, a store and a reader made by hand, for sessions without sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tornado_live.audio import Codec, DecodeLimits, StreamFormat, StreamInfo
from tornado_live.errors import AudioHeaderMissing, AudioMalformed, LiveError
from tornado_live.sessions.events import Event, ExchangeUpdate, Notice
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.session import Session, SessionPolicy
from tornado_live.store.base import SessionRecord, SessionStatus, TurnRecord
from tornado_live.upstream.base import HistoryTurn, LinkEvent


class FakeLink:
    """Fulfils `UpstreamLink`; the test says what the model says, by `tell`."""

    def __init__(
        self,
        on_event: Callable[[LinkEvent], None],
        history: Callable[[], list[HistoryTurn]],
        handle: str | None,
    ) -> None:
        self.tell = on_event
        self.history = history
        self.handle = handle
        self.backlog_s = 0.0
        self.sent: list[tuple[Any, ...]] = []
        self.running = False

    def start(self) -> None:
        self.running = True

    async def wait_ready(self, timeout_s: float) -> bool:
        return True

    def send_audio(self, pcm: bytes, *, mark: int | None = None) -> None:
        self.sent.append(("audio", pcm, mark))

    def send_text(self, text: str) -> None:
        self.sent.append(("text", text))

    def activity_start(self) -> None:
        self.sent.append(("activity_start",))

    def activity_end(self) -> None:
        self.sent.append(("activity_end",))

    def end_of_stream(self) -> None:
        self.sent.append(("end_of_stream",))

    async def stop(self) -> None:
        self.running = False


class FakeStore:
    """Fulfils `Store`, in two dicts."""

    failing = False

    def __init__(self) -> None:
        self.sessions: dict[str, SessionRecord] = {}
        self.kept: list[TurnRecord] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def put_session(self, record: SessionRecord) -> None:
        self.sessions[record.key] = record

    async def find_session(self, owner: str, label: str) -> SessionRecord | None:
        found = [each for each in self.sessions.values() if (each.owner, each.label) == (owner, label)]
        return found[-1] if found else None

    async def list_sessions(self, owner: str, statuses: Sequence[SessionStatus]) -> list[SessionRecord]:
        return [each for each in self.sessions.values() if each.owner == owner and each.status in statuses]

    async def open_sessions(self) -> list[SessionRecord]:
        return [
            each for each in self.sessions.values() if each.status in ("connecting", "active", "detached")
        ]

    async def put_turns(self, turns: Sequence[TurnRecord]) -> None:
        self.kept.extend(turns)

    async def turns(self, key: str) -> list[TurnRecord]:
        return [turn for turn in self.kept if turn.key == key]

    async def delete_before(self, ended_before: float) -> int:
        return 0


class FakeReader:
    """Fulfils `Attachment`; remembers what it was told."""

    def __init__(self, *, observer: bool = False) -> None:
        self.observer = observer
        self.events: list[Event] = []
        self.closed_by: list[LiveError | None] = []

    def deliver(self, event: Event) -> None:
        self.events.append(event)

    def session_closed(self, error: LiveError | None) -> None:
        self.closed_by.append(error)

    @property
    def notices(self) -> list[str]:
        return [event.body.type for event in self.events if isinstance(event.body, Notice)]

    def notice(self, kind: str) -> dict[str, Any]:
        """What the newest notice of this type said."""
        return next(
            event.body.data
            for event in reversed(self.events)
            if isinstance(event.body, Notice) and event.body.type == kind
        )

    @property
    def finals(self) -> list[ExchangeUpdate]:
        return [e.body for e in self.events if isinstance(e.body, ExchangeUpdate) and e.body.final]


class _EchoDecoder:
    """One byte in, one byte out; `!` cannot be decoded. Its first chunk is its header."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking
        self.init_segment = b"HEAD"
        self.info: StreamInfo | None = None

    def decode(self, data: bytes) -> bytes:
        if b"!" in data:
            raise AudioMalformed
        return data.removeprefix(b"HEAD")

    def flush(self) -> bytes:
        return b"<>"


class FakeCodecs:
    """Fulfils `Codecs`: streams begin with HEAD, or are headerless PCM where the label says `pcm`."""

    def __init__(self, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self.opened = 0

    def recognise(self, head: bytes, declared: StreamFormat) -> Codec | None:
        if declared.label == "pcm":
            return self._codec("pcm", headerless=True)
        if head[:4] == b"HEAD":
            return self._codec("echo", headerless=False)
        if b"HEAD".startswith(head[:4]):
            return None
        raise AudioHeaderMissing

    def begins_stream(self, chunk: bytes, declared: StreamFormat) -> bool:
        return chunk.startswith(b"HEAD")

    def open(self, codec: Codec, declared: StreamFormat, limits: DecodeLimits) -> _EchoDecoder:
        self.opened += 1
        return _EchoDecoder(blocking=self.blocking)

    def _codec(self, name: str, *, headerless: bool) -> Codec:
        return Codec(
            name=name,
            summary="",
            mime_types=(),
            labels=(name,),
            sniff=lambda head, declared: None,
            open=lambda declared, limits: _EchoDecoder(blocking=self.blocking),
            headerless=headerless,
            blocking=self.blocking,
        )


def make_session(store: FakeStore | None = None, *, lifetime_s: float = 900.0, **options: Any) -> Session:
    """A session that is not open, on fakes; `options` as `SessionOptions` has them."""
    now = time.time()
    chosen = SessionOptions(**{"stream": StreamFormat("pcm"), **options})
    record = SessionRecord(
        key="key",
        owner="owner",
        label="label",
        status="connecting",
        model="model",
        options=chosen.as_json(),
        started_at=now,
        last_activity_at=now,
        expires_at=now + lifetime_s,
    )
    return Session(
        record,
        chosen,
        policy=SessionPolicy(end_wait_s=0.2),
        codecs=FakeCodecs(),
        store=store or FakeStore(),
        make_link=FakeLink,
    )
