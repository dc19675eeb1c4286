"""`GET /session/{id}/events`: a session's events as Server-Sent Events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Final

from tornado.iostream import StreamClosedError

from tornado_live.errors import InvalidField, LiveError
from tornado_live.handlers.base import BaseHandler
from tornado_live.sessions.events import Event
from tornado_live.sessions.outbox import Outbox
from tornado_live.sessions.rendering import event_frames
from tornado_live.sessions.session import Session
from tornado_live.wire import replies
from tornado_live.wire.requests import check_session_id

HEARTBEAT_S: Final = 15.0


class EventsHandler(BaseHandler):
    """Only reads: an observer neither keeps a session alive nor takes it over.

    Each event's `id` is its `seq`; a client that comes back with `Last-Event-ID` gets what it missed,
    or first an `events_lost` event that says which numbers are gone.
    """

    observer = True

    async def get(self, label: str) -> None:
        last_seen = self.request.headers.get("Last-Event-ID")
        if last_seen is not None and not last_seen.isdecimal():
            raise InvalidField("Last-Event-ID must be the id of an event of this stream.")
        session = await self.services.registry.find(self.caller.owner, check_session_id(label), self.account)
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("X-Accel-Buffering", "no")
        self._over = asyncio.Event()
        self._session = session
        self._render = partial(event_frames, session, binary=False)
        self._outbox = Outbox(self._write, self.session_closed)
        await self.flush()
        if last_seen is not None:
            self._replay(session, int(last_seen))
        session.attach(self)
        try:
            await self._stay()
        finally:
            session.detach(self)
            self._outbox.close()

    def _replay(self, session: Session, last_seen: int) -> None:
        missed, gap = session.log.since(last_seen)
        if gap is not None:
            body = {"from": gap[0], "to": gap[1]}
            self._outbox.put(replies.encode(replies.message("events_lost", session.label, data=body)))
        for event in missed:
            self.deliver(event)

    async def _stay(self) -> None:
        while not self._over.is_set():
            try:
                await asyncio.wait_for(self._over.wait(), HEARTBEAT_S)
            except TimeoutError:
                self._outbox.put("")
        await self._outbox.drained()

    def deliver(self, event: Event) -> None:
        self._outbox.put_event(event, self._render)

    def session_closed(self, error: LiveError | None) -> None:
        body = replies.error_fields(error) if error is not None else {}
        self._outbox.put(replies.encode(replies.message("session_ended", self._session.label, **body)))
        self._over.set()

    async def _write(self, frame: str | bytes) -> None:
        assert isinstance(frame, str)
        try:
            self.write(_as_event(frame))
            await self.flush()
        except StreamClosedError:
            self._over.set()

    def on_connection_close(self) -> None:
        if hasattr(self, "_over"):
            self._over.set()


def _as_event(frame: str) -> str:
    if not frame:
        return ": still here\n\n"
    message = json.loads(frame)
    number = f"id: {message['seq']}\n" if "seq" in message else ""
    return f"{number}event: {message['type']}\ndata: {frame}\n\n"
