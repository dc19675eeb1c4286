"""What the server makes of a client's frame, up to where a session would be needed."""

from __future__ import annotations

from tornado_live.audio import StreamFormat
from tornado_live.errors import LiveError
from tornado_live.sessions.options import SessionOptions, declared_format
from tornado_live.wire import replies
from tornado_live.wire.audio_data import decode_audio_data
from tornado_live.wire.requests import (
    AudioChunk,
    ClientMessage,
    Resume,
    StartSession,
    check_session_id,
    parse_message,
)

MAX_ERROR_CHARS = 600


def understand(frame: str | bytes) -> ClientMessage | LiveError:
    """The message, or the error that the client is told: there is no third way for a frame to end."""
    try:
        message = parse_message(frame)
        _check_fields(message)
    except LiveError as error:
        told = replies.encode(replies.error_fields(error))
        if len(told) > MAX_ERROR_CHARS:
            raise AssertionError(f"an error of {len(told)} characters") from error
        return error
    assert isinstance(message, ClientMessage)
    return message


def _check_fields(message: ClientMessage) -> None:
    match message:
        case StartSession(session_id=label):
            SessionOptions.from_fields(message)
            if label:
                check_session_id(label)
        case AudioChunk(audio_data=text):
            declared_format(message, StreamFormat())
            decode_audio_data(text)
        case Resume(session_id=label):
            check_session_id(label)
