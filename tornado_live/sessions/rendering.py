"""What a client reads of a session: its record, and the events of its log."""

from __future__ import annotations

import time
from typing import Any

from tornado_live.sessions.events import Event, ExchangeUpdate, Notice, ReplyAudio
from tornado_live.sessions.session import Session
from tornado_live.store.base import SessionRecord, TurnRecord
from tornado_live.wire import replies


def session_data(record: SessionRecord) -> dict[str, Any]:
    """`data` of a start, a status and a session in a list."""
    data: dict[str, Any] = {
        "sessionId": record.label,
        "status": record.status,
        "startTime": replies.timestamp(record.started_at),
        "model": record.model,
        "responseModality": record.options.get("modality", "text"),
        "lastActivity": replies.timestamp(record.last_activity_at),
        "expiresAt": replies.timestamp(record.expires_at),
    }
    if record.served_model:
        data["servedModel"] = record.served_model
    if record.ended_at is not None:
        data["endTime"] = replies.timestamp(record.ended_at)
        data["endReason"] = record.end_reason
    if record.usage:
        data["usage"] = {
            "promptTokens": record.usage.get("prompt_tokens", 0),
            "responseTokens": record.usage.get("response_tokens", 0),
            "totalTokens": record.usage.get("total_tokens", 0),
        }
    return data


def live_data(session: Session) -> dict[str, Any]:
    """`session_data` of a live session, with what was found in its audio."""
    data = session_data(session.view())
    info = session.intake.info
    data["audio"] = info and {
        "container": info.container,
        "codec": info.codec,
        "rateHz": info.rate_hz,
        "channels": info.channels,
        "seconds": round(session.intake.decoded_s, 3),
        "lostBytes": info.lost_bytes,
    }
    return data


def ended_data(record: SessionRecord) -> dict[str, Any]:
    """`data` of an end (the duration is in ms), or of being let go of by a session that lives on."""
    data: dict[str, Any] = {"sessionId": record.label, "status": record.status}
    if record.ended_at is not None:
        data["endTime"] = replies.timestamp(record.ended_at)
        data["duration"] = int((record.ended_at - record.started_at) * 1000)
    return data


def turn_data(turn: TurnRecord) -> dict[str, Any]:
    """One turn of a transcript; times are ms on the session's clock."""
    return {
        "turnId": turn.turn_id,
        "role": turn.role,
        "text": turn.text,
        "startMs": turn.start_ms,
        "endMs": turn.end_ms,
        "interrupted": turn.interrupted,
    }


def event_frames(session: Session, event: Event, *, binary: bool) -> list[str | bytes]:
    """The WebSocket frames of an event: one message, for binary audio a header and the samples."""
    match event.body:
        case Notice(kind, data, error, code):
            fields: dict[str, Any] = {"seq": event.seq, "data": data}
            if error is not None:
                fields |= {"error": error, "code": code}
            return [replies.encode(replies.message(kind, session.label, **fields))]
        case ExchangeUpdate():
            data = exchange_data(session, event.body)
            return [
                replies.encode(
                    replies.message("transcription_result", session.label, seq=event.seq, data=data)
                )
            ]
        case ReplyAudio(exchange, pcm):
            header = {"turnId": exchange.id, "sampleRate": 24_000}
            if binary:
                header |= {"binary": True, "bytes": len(pcm)}
                return [_audio_header(session, event, header), pcm]
            return [_audio_header(session, event, header | {"data": replies.base64_text(pcm)})]


def _audio_header(session: Session, event: Event, data: dict[str, Any]) -> str:
    return replies.encode(replies.message("audio_output", session.label, seq=event.seq, data=data))


def exchange_data(session: Session, update: ExchangeUpdate) -> dict[str, Any]:
    """`data` of a `transcription_result`: the whole of the exchange as it was then."""
    exchange = update.exchange
    said = exchange.input_text[: update.input_chars]
    if update.interim:
        said = f"{said} {update.interim.lstrip()}" if said else update.interim.lstrip()
    written = exchange.written[: update.written_chars]
    spoken = exchange.spoken[: update.spoken_chars]
    reply = (written or spoken) if session.options.shows_reply_text else None
    return {
        "sessionId": session.label,
        "inputTranscription": said if session.options.input_transcription and said else None,
        "outputTranscription": spoken if session.options.output_transcription and spoken else None,
        "transcript": reply or None,
        "audioBuffer": replies.wav_base64(update.audio),
        "timestamp": replies.timestamp(time.time()),
        "model": session.record.model,
        "servedModel": session.record.served_model,
        "responseModality": session.options.modality,
        "turnId": exchange.id,
        "final": update.final,
        "interrupted": exchange.interrupted if update.final else False,
    }
