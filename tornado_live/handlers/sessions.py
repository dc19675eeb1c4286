"""`/api/v1/live-audio/session…`: start, status, end, list."""

from __future__ import annotations

from typing import Any

from tornado_live.errors import InvalidField, LiveError, SessionNotFound
from tornado_live.handlers.base import BaseHandler
from tornado_live.sessions.export import FORMATS
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.rendering import ended_data, live_data, session_data, turn_data
from tornado_live.wire import replies
from tornado_live.wire.requests import EndBody, StartBody, check_session_id


class StartHandler(BaseHandler):
    """`POST /session/start` and `POST /streaming/start`."""

    async def post(self) -> None:
        body = self.parse(StartBody)
        label = check_session_id(body.session_id) if body.session_id else None
        session = await self.services.start_session(
            self.caller, self.account, self.address, label, SessionOptions.from_fields(body)
        )
        session.rest.used = True
        data = live_data(session) | {"engine": self.services.engine}
        await self.answer(session_id=session.label, data=data)


class TicketHandler(BaseHandler):
    """`POST /ticket`: opens one WebSocket in the caller's name, once and soon, so that no key is in a URL."""

    async def post(self) -> None:
        ticket = self.services.authenticator.issue_ticket(self.caller, self.request.headers.get("Origin"))
        lifetime_s = self.services.settings.auth.ticket_lifetime
        await self.answer(ticket=ticket, data={"ticket": ticket, "expiresInMs": int(lifetime_s * 1000)})


class EndHandler(BaseHandler):
    """`POST /session/end`: the last texts come in `data`."""

    async def post(self) -> None:
        label = check_session_id(self.parse(EndBody).session_id)
        record = await self.services.registry.end(self.caller.owner, label)
        data: dict[str, Any] = ended_data(record)
        last = self.services.registry.last_words(self.caller.owner, label)
        if last is not None:
            data["inputTranscription"] = last.input_text or None
            data["transcript"] = last.reply_text or None
            data["audioBuffer"] = replies.wav_base64(last.audio)
        await self.answer(session_id=label, data=data)


class StatusHandler(BaseHandler):
    """`GET /session/{session_id}/status`: 200 for every record that is kept."""

    async def get(self, label: str) -> None:
        registry = self.services.registry
        session = registry.get(self.caller.owner, check_session_id(label))
        if session is not None and session.alive:
            data = live_data(session)
        else:
            record = await registry.record(self.caller.owner, label)
            if record is None:
                raise SessionNotFound
            data = session_data(record)
        data["rateLimits"] = await self.account.status()
        await self.answer(session_id=label, data=data)

    def error_data(self, error: LiveError) -> dict[str, Any]:
        if isinstance(error, SessionNotFound):
            return {"data": {"status": "not_found"}}
        return {}


class TranscriptHandler(BaseHandler):
    """`GET /session/{session_id}/transcript`: all turns so far; `?format=` text, markdown, srt, vtt."""

    async def get(self, label: str) -> None:
        wanted = self.get_query_argument("format", "json")
        if wanted != "json" and wanted not in FORMATS:
            raise InvalidField(f"format must be json, {', '.join(FORMATS)}.")
        turns = await self.services.registry.turns(self.caller.owner, check_session_id(label))
        if wanted == "json":
            data = {"sessionId": label, "turns": [turn_data(turn) for turn in turns]}
            await self.answer(session_id=label, data=data)
            return
        mime_type, write = FORMATS[wanted]
        self.set_header("Content-Type", mime_type)
        await self.finish(write(turns))


class SessionsHandler(BaseHandler):
    """`GET /sessions`: the caller's own that have not ended; a shared key lists nothing."""

    async def get(self) -> None:
        records = [] if self.caller.shared else await self.services.registry.list(self.caller.owner)
        data = {"sessions": [session_data(record) for record in records], "count": len(records)}
        await self.answer(data=data)
