"""What the server says: REST answers and WebSocket messages as plain dicts, then JSON.

What the server sends has `type`, `session_id`, `seq`, `error` and `code` at the top and everything
else in `data`, camelCase. All times are ISO 8601, UTC, with milliseconds and `Z`; durations are ms.
"""

from __future__ import annotations

import io
import wave
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pybase64

from tornado_live.audio import REPLY
from tornado_live.errors import LiveError

PROTOCOL_VERSION: Final = 1

_encoder = msgspec.json.Encoder()


def encode(message: dict[str, Any]) -> str:
    """JSON text of a message."""
    return _encoder.encode(message).decode()


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC, with milliseconds and `Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def wav_base64(pcm: bytes) -> str | None:
    """A whole reply's audio (`audio.REPLY` samples) as base64 of a WAV file; None if there is none."""
    if not pcm:
        return None
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(REPLY.channels)
        file.setsampwidth(2)
        file.setframerate(REPLY.rate_hz)
        file.writeframes(pcm)
    return base64_text(buffer.getvalue())


def base64_text(data: bytes) -> str:
    return pybase64.b64encode(data).decode("ascii")


def error_fields(error: LiveError) -> dict[str, Any]:
    """The fields that tell a client of an error, the same on every way out."""
    fields: dict[str, Any] = {"error": error.message, "code": error.code, "retryable": error.retryable}
    if error.retry_after_s is not None:
        fields["retry_after_ms"] = int(error.retry_after_s * 1000)
    return fields


def error_body(error: LiveError) -> dict[str, Any]:
    """A REST answer."""
    return {"success": False, **error_fields(error)}


def message(kind: str, session_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """A WebSocket message; `session_id` is left out where there is no session."""
    top: dict[str, Any] = {"type": kind}
    if session_id is not None:
        top["session_id"] = session_id
    return top | fields
