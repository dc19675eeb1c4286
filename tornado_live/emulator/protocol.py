"""The words on the wire: client messages parsed, server messages built. No I/O, no state."""

from __future__ import annotations

import json
import re
from typing import Any

import pybase64
from pydantic import ValidationError

from tornado_live.emulator.schema import (
    ClientContent,
    ClientMessage,
    ContextUpdate,
    RealtimeInput,
    Setup,
    ToolResponse,
)

ServerMessage = dict[str, Any]
ClientPart = Setup | ClientContent | RealtimeInput | ToolResponse | ContextUpdate

INVALID_ARGUMENT = "Request contains an invalid argument."


class ProtocolError(Exception):
    """The client broke the protocol: the connection is closed with `code` and `reason`.

    `reason` is cut to the 123 bytes that a close frame holds (RFC 6455, section 5.5), as Google's are.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason.encode()[:123].decode(errors="ignore")


def parse(frame: str | bytes) -> ClientPart:
    """The one message in a text or binary frame.

    Raises:
        ProtocolError: 1007, in Google's words: not JSON, an unknown name, a wrong value, or not exactly one
            message.
    """
    try:
        payload = json.loads(frame)
    except ValueError as error:
        raise ProtocolError(1007, f"Invalid JSON payload received. {error}") from error
    if not isinstance(payload, dict):
        raise ProtocolError(1007, "Invalid JSON payload received. Expected an object.")
    try:
        message = ClientMessage.model_validate(_without_nulls(payload))
    except ValidationError as error:
        raise ProtocolError(1007, _in_googles_words(error)) from error
    parts = [getattr(message, name) for name in ClientMessage.model_fields]
    said = [part for part in parts if part is not None]
    if len(said) != 1:
        raise ProtocolError(1007, INVALID_ARGUMENT)
    part: ClientPart = said[0]
    return part


def _without_nulls(value: Any) -> Any:
    """ProtoJSON reads null as a field left out."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _in_googles_words(error: ValidationError) -> str:
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    path = first["loc"]
    if first["type"] == "extra_forbidden":
        *parents, name = path
        where = f" at '{_proto_path(tuple(parents))}'" if parents else ""
        return f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
    if first["type"] == "missing":
        return INVALID_ARGUMENT
    value = json.dumps(first["input"], default=str)[:60]
    return f"Invalid value at '{_proto_path(path)}', {value}"


def _proto_path(path: tuple[int | str, ...]) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else "." + _snake(step) for step in path]
    return "".join(steps).lstrip(".")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def encode(message: ServerMessage) -> bytes:
    """A frame as Google sends it: JSON over several lines."""
    return json.dumps(message, indent=2, ensure_ascii=False).encode() + b"\n"


def setup_complete() -> ServerMessage:
    return {"setupComplete": {}}


def content(**fields: Any) -> ServerMessage:
    """A `serverContent` of these fields."""
    return {"serverContent": fields}


def model_audio(pcm: bytes) -> dict[str, Any]:
    """A `modelTurn` of one piece of speech: 24 kHz, s16le, mono."""
    data = pybase64.b64encode(pcm).decode()
    return {"role": "model", "parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": data}}]}


def model_text(text: str) -> dict[str, Any]:
    return {"role": "model", "parts": [{"text": text}]}


def tool_call(calls: list[dict[str, Any]]) -> ServerMessage:
    return {"toolCall": {"functionCalls": calls}}


def tool_call_cancellation(ids: list[str]) -> ServerMessage:
    return {"toolCallCancellation": {"ids": ids}}


def go_away(time_left_s: float) -> ServerMessage:
    return {"goAway": {"timeLeft": f"{time_left_s:.3f}".rstrip("0").rstrip(".") + "s"}}


def resumption_update(handle: str | None) -> ServerMessage:
    """None: this moment cannot be resumed; ProtoJSON leaves empty and false fields out."""
    return {"sessionResumptionUpdate": {"newHandle": handle, "resumable": True} if handle else {}}


def summary(message: ServerMessage) -> str:
    """The message's fields in short, for the journal: `serverContent.modelTurn+outputTranscription`."""
    return " ".join(
        f"{key}.{'+'.join(value)}" if isinstance(value, dict) and value else key
        for key, value in message.items()
    )
