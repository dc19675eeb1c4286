"""The OpenAPI 3.1 description of REST, made from the types that parse the bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tornado_live import __version__
from tornado_live.errors import (
    AccessError,
    AudioError,
    LiveError,
    RequestError,
    ServerError,
    SessionError,
    UpstreamError,
)
from tornado_live.wire.requests import SESSION_ID, EndBody, StartBody, TranscribeBody

PREFIX: Final = "/api/v1/live-audio"
_JSON: Final = "application/json"
_TIME: Final = {"type": "string", "format": "date-time"}
_TEXT: Final = {"type": ["string", "null"]}
_REFERENCE: Final = "#/components/schemas/{name}"
_ID: Final = {"type": "string", "pattern": f"^{SESSION_ID.pattern}$"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address."""

    path: str
    method: str
    summary: str
    data: str
    body: type[msgspec.Struct] | None = None
    errors: tuple[int, ...] = ()
    query: tuple[dict[str, Any], ...] = ()
    top: tuple[str, ...] = ("session_id",)
    other_types: tuple[str, ...] = ()


_START_ERRORS: Final = (409, 429, 502, 503)
_FORMATS: Final = {
    "name": "format",
    "in": "query",
    "schema": {"enum": ["json", "text", "markdown", "srt", "vtt"]},
}
_SINCE: Final = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]+$"}}

OPERATIONS: Final = (
    Operation("/sessions", "get", "The caller's sessions that have not ended", "Sessions", top=()),
    Operation("/session/start", "post", "Begins a session", "Session", StartBody, _START_ERRORS),
    Operation("/streaming/start", "post", "The same as /session/start", "Session", StartBody, _START_ERRORS),
    Operation(
        "/transcribe",
        "post",
        "Takes a chunk of a session, or a whole recording",
        "Transcription",
        TranscribeBody,
        (404, 409, 410, 415, 500, 502, 503),
        top=("session_id", "inputTranscription", "response"),
    ),
    Operation(
        "/session/end", "post", "Ends a session; the last texts come with it", "Ended", EndBody, (404,)
    ),
    Operation("/ticket", "post", "A ticket that opens one WebSocket", "Ticket", top=("ticket",)),
    Operation("/session/{session_id}/status", "get", "What is known of a session", "Session", errors=(404,)),
    Operation(
        "/session/{session_id}/transcript",
        "get",
        "All turns so far",
        "Transcript",
        errors=(404,),
        query=(_FORMATS,),
        other_types=("text/plain", "text/markdown", "application/x-subrip", "text/vtt"),
    ),
    Operation(
        "/session/{session_id}/events",
        "get",
        "The session's events as Server-Sent Events",
        "",
        errors=(404, 410, 502, 503),
        query=(_SINCE,),
        other_types=("text/event-stream",),
    ),
)


def _object(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_STATUS: Final = {"enum": ["connecting", "active", "detached", "ended", "expired", "failed"]}
_SESSION: Final = _object(
    ("sessionId", "status", "startTime", "model", "responseModality", "lastActivity"),
    sessionId=_ID,
    status=_STATUS,
    startTime=_TIME,
    lastActivity=_TIME,
    expiresAt=_TIME,
    endTime=_TIME,
    model={"type": "string"},
    servedModel={"type": "string"},
    responseModality={"enum": ["text", "audio"]},
    audio={"type": ["object", "null"]},
    rateLimits={"type": "object"},
)
_TURN: Final = _object(
    ("turnId", "role", "text", "startMs", "endMs", "interrupted"),
    turnId={"type": "string"},
    role={"enum": ["user", "model"]},
    text={"type": "string"},
    startMs={"type": "integer"},
    endMs={"type": "integer"},
    interrupted={"type": "boolean"},
)
_SCHEMAS: Final[dict[str, Any]] = {
    "Session": _SESSION,
    "Sessions": _object(
        ("sessions", "count"), sessions={"type": "array", "items": _SESSION}, count={"type": "integer"}
    ),
    "Ended": _object(
        ("sessionId", "status", "endTime", "duration"),
        sessionId=_ID,
        status=_STATUS,
        endTime=_TIME,
        duration={"type": "integer", "description": "ms"},
        inputTranscription=_TEXT,
        transcript=_TEXT,
    ),
    "Ticket": _object(("ticket", "expiresInMs"), ticket={"type": "string"}, expiresInMs={"type": "integer"}),
    "Transcript": _object(("sessionId", "turns"), sessionId=_ID, turns={"type": "array", "items": _TURN}),
    "Transcription": _object(
        ("sessionId", "inputTranscription", "transcript", "audioBuffer", "timestamp", "model"),
        sessionId={"type": ["string", "null"]},
        inputTranscription=_TEXT,
        outputTranscription=_TEXT,
        transcript=_TEXT,
        audioBuffer={"type": ["string", "null"], "description": "base64 of a WAV file, 24 kHz mono"},
        confidence={"type": ["number", "null"]},
        timestamp=_TIME,
        model={"type": "string"},
        servedModel={"type": "string"},
        responseModality={"enum": ["text", "audio"]},
    ),
}


def error_codes() -> list[str]:
    """All stable codes, in order."""
    families = (RequestError, AudioError, SessionError, AccessError, UpstreamError, ServerError)
    return sorted({error.code for family in families for error in _with_descendants(family)})


def _with_descendants(error: type[LiveError]) -> list[type[LiveError]]:
    return [error, *(each for child in error.__subclasses__() for each in _with_descendants(child))]


def _error_schema() -> dict[str, Any]:
    return _object(
        ("success", "error", "code"),
        success={"const": False},
        error={"type": "string", "description": "one sentence, to be shown as it is"},
        code={"enum": error_codes()},
        retryable={"type": "boolean"},
        retry_after_ms={"type": "integer"},
    )


def description() -> dict[str, Any]:
    """The whole document."""
    bodies = {operation.body for operation in OPERATIONS if operation.body is not None}
    references, components = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    by_body: dict[type[msgspec.Struct] | None, dict[str, Any]] = dict(zip(bodies, references, strict=True))
    schemas = _SCHEMAS | components | {"Error": _error_schema()}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(PREFIX + operation.path, {})[operation.method] = _operation(
            operation, by_body.get(operation.body)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tornado-live",
            "version": __version__,
            "description": "Speech in, transcripts and replies out, through Gemini Live.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"key": []}, {"bearer": []}],
    }


def _operation(operation: Operation, body: dict[str, Any] | None) -> dict[str, Any]:
    described: dict[str, Any] = {"summary": operation.summary, "responses": _responses(operation)}
    parameters = list(operation.query)
    if "{session_id}" in operation.path:
        parameters.append({"name": "session_id", "in": "path", "required": True, "schema": _ID})
    if parameters:
        described["parameters"] = parameters
    if body is not None:
        described["requestBody"] = {
            "required": operation.body is not StartBody,
            "content": {_JSON: {"schema": body}},
        }
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {mime: {"schema": {"type": "string"}} for mime in operation.other_types}
    if operation.data:
        top: dict[str, Any] = {name: {"type": ["string", "null"]} for name in operation.top}
        schema = _object(
            ("success", "data", *operation.top),
            success={"const": True},
            data={"$ref": f"#/components/schemas/{operation.data}"},
            **top,
        )
        content[_JSON] = {"schema": schema}
    error = {
        "description": "what is wrong, in words",
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    codes = sorted({400, 401, 403, 413, 429, *operation.errors})
    return {"200": {"description": operation.summary, "content": content}} | {str(c): error for c in codes}
