"""`POST /api/v1/live-audio/transcribe`: a chunk of a session, or a whole recording."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tornado.iostream import StreamClosedError

from tornado_live.audio import StreamFormat
from tornado_live.handlers.arrival import Ticket
from tornado_live.handlers.base import BaseHandler
from tornado_live.sessions.delivery import Answer
from tornado_live.sessions.intake import Chunk
from tornado_live.sessions.options import SessionOptions, declared_format
from tornado_live.sessions.session import Session
from tornado_live.wire import replies
from tornado_live.wire.audio_data import decode_audio_data
from tornado_live.wire.requests import ONE_SHOT_IDS, StartFields, TranscribeBody, check_session_id


class TranscribeHandler(BaseHandler):
    """Texts of a session are deltas: joining all answers in order gives the whole, nothing twice."""

    _ticket: Ticket | None = None
    _work: asyncio.Task[None] | None = None
    _gone = False

    @property
    def max_body_bytes(self) -> int:
        return self.services.settings.server.max_transcribe_body

    def arrived(self) -> None:
        if self.request.method == "POST":
            self._ticket = self.services.arrivals.take(self.caller.owner, self.address)

    async def post(self) -> None:
        self._work = asyncio.current_task()
        try:
            await self._transcribe()
        except asyncio.CancelledError:
            if not self._gone:
                raise
        finally:
            self._work = None

    async def _transcribe(self) -> None:
        body = self.parse(TranscribeBody)
        audio = decode_audio_data(body.audio_data)
        if body.session_id in ONE_SHOT_IDS:
            self._release_ticket()
            await self._one_shot(body, audio)
            return
        session = await self.services.registry.find(
            self.caller.owner, check_session_id(body.session_id or ""), self.account
        )
        await self._chunk(session, body, audio)

    async def _chunk(self, session: Session, body: TranscribeBody, audio: bytes) -> None:
        chunk = Chunk(audio, declared_format(body, session.options.stream), body.seq)
        if self._ticket is not None:
            await self._ticket.turn()
        session.claim_uplink(self.caller.owner)
        session.feed(chunk)
        self._release_ticket()
        waiting = session.rest.wait()
        try:
            await chunk.done
            await self.answer(**_answer_fields(session, await waiting))
        except StreamClosedError:
            session.rest.withdraw(waiting)
        except BaseException:
            session.rest.withdraw(waiting)
            raise

    async def _one_shot(self, body: TranscribeBody, audio: bytes) -> None:
        fields = StartFields(
            model=body.model, response_modality=body.response_modality, language=body.language
        )
        options = SessionOptions.from_fields(fields)
        result = await self.services.transcribe_once(
            self.caller, self.account, self.address, audio, declared_format(body, StreamFormat()), options
        )
        data = {
            "sessionId": None,
            "inputTranscription": result.input_text or None,
            "outputTranscription": result.reply_text or None,
            "transcript": result.reply_text or None,
            "audioBuffer": replies.wav_base64(result.audio),
            "confidence": None,
            "timestamp": replies.timestamp(time.time()),
            "model": self.services.catalogue.resolve(options.model)[0],
            "servedModel": result.served_model,
            "responseModality": options.modality,
            "engine": self.services.engine,
        }
        await self.answer(
            session_id=None,
            inputTranscription=data["inputTranscription"],
            response=data["transcript"],
            data=data,
        )

    def _release_ticket(self) -> None:
        if self._ticket is not None:
            self._ticket.release()

    def on_finish(self) -> None:
        self._release_ticket()

    def on_connection_close(self) -> None:
        self._release_ticket()
        self._gone = True
        if self._work is not None:
            self._work.cancel()


def _answer_fields(session: Session, answer: Answer) -> dict[str, Any]:
    said = answer.input_text or None
    reply = answer.reply_text or None
    data = {
        "sessionId": session.label,
        "inputTranscription": said,
        "outputTranscription": reply if session.options.output_transcription else None,
        "transcript": reply,
        "audioBuffer": replies.wav_base64(answer.audio),
        "confidence": None,
        "timestamp": replies.timestamp(time.time()),
        "model": session.record.model,
        "servedModel": session.record.served_model,
        "responseModality": session.options.modality,
        "turnId": answer.turn_id,
    }
    return {"session_id": session.label, "inputTranscription": said, "response": reply, "data": data}
