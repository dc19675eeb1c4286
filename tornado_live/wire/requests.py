"""What clients send: REST bodies and WebSocket messages, typed. Unknown fields are ignored: clients grow.

What clients send is snake_case.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec

from tornado_live.errors import InvalidField, InvalidJson, UnknownMessage

SESSION_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_TEXT_CHARS: Final = 32_000
_MAX_QUOTED_CHARS: Final = 200
ONE_SHOT_IDS: Final = frozenset({None, "", "default"})


class StartFields(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a session may be started with; all of it can be left out."""

    session_id: str | None = None
    model: str | None = None
    response_modality: str | None = None
    input_transcription: bool | None = None
    output_transcription: bool | None = None
    format: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    audio_delivery: str | None = None
    turn_detection: str | None = None
    language: str | None = None
    voice: str | None = None
    system_instruction: str | None = None


Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class AudioFields(msgspec.Struct, kw_only=True):
    """One chunk of a recording. Rate and channels count for headerless PCM only."""

    audio_data: str
    format: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    seq: Seq | None = None


class StartBody(StartFields):
    """`POST /session/start`, `POST /streaming/start`."""


class TranscribeBody(AudioFields):
    """`POST /transcribe`. Without a session id (or with `default`) the audio is one whole utterance."""

    session_id: str | None = None
    model: str | None = None
    response_modality: str | None = None
    language: str | None = None


class EndBody(msgspec.Struct):
    """`POST /session/end`."""

    session_id: str


class Auth(msgspec.Struct, tag="auth"):
    token: str | None = None
    api_key: str | None = None

    @property
    def credential(self) -> str:
        return self.token or self.api_key or ""


class AuthApiKey(Auth, tag="api_key"):
    """`auth` as one published client spells it: it overwrites `type` with the kind of token."""


class AuthBearer(Auth, tag="bearer"):
    """As `AuthApiKey`, for bearer tokens."""


class StartSession(StartFields, tag="start_session"):
    pass


class AudioChunk(AudioFields, tag="audio_chunk"):
    pass


class EndSession(msgspec.Struct, tag="end_session"):
    pass


class GetStatus(msgspec.Struct, tag="get_status"):
    pass


class GetRateLimits(msgspec.Struct, tag="get_rate_limits"):
    pass


class Hello(msgspec.Struct, tag="hello"):
    version: int | str | None = None
    binary: bool = False


class Resume(msgspec.Struct, tag="resume"):
    session_id: str
    resume_token: str
    last_seq: Seq = 0


class Ack(msgspec.Struct, tag="ack"):
    seq: Seq


class Text(msgspec.Struct, tag="text"):
    text: str


class Flush(msgspec.Struct, tag="flush"):
    pass


class ActivityStart(msgspec.Struct, tag="activity_start"):
    pass


class ActivityEnd(msgspec.Struct, tag="activity_end"):
    pass


class Cancel(msgspec.Struct, tag="cancel"):
    pass


class Playback(msgspec.Struct, tag="playback"):
    """How much of a reply's voice the user has heard so far."""

    turn_id: str
    played_ms: Milliseconds


class ExtendSession(msgspec.Struct, tag="extend_session"):
    pass


ClientMessage = (
    Auth
    | AuthApiKey
    | AuthBearer
    | StartSession
    | AudioChunk
    | EndSession
    | GetStatus
    | GetRateLimits
    | Hello
    | Resume
    | Ack
    | Text
    | Flush
    | ActivityStart
    | ActivityEnd
    | Cancel
    | Playback
    | ExtendSession
)

_message_decoder: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)

Body = TypeVar("Body", StartBody, TranscribeBody, EndBody)


def parse_message(text: str | bytes) -> ClientMessage:
    """One WebSocket text frame.

    Raises:
        InvalidJson, UnknownMessage, InvalidField
    """
    try:
        return _message_decoder.decode(text)
    except msgspec.ValidationError as exc:
        raise _validation_error(exc) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidJson from None


def parse_body(body: bytes, kind: type[Body]) -> Body:
    """One REST body; an empty one counts as `{}`.

    Raises:
        InvalidJson, InvalidField
    """
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as exc:
        raise _invalid_field(exc) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidJson("The request body is not valid JSON.") from None


def check_session_id(session_id: str) -> str:
    """Raises InvalidField unless it is 1 to 128 of `A-Z a-z 0-9 . _ -`."""
    if SESSION_ID.fullmatch(session_id) is None:
        raise InvalidField("session_id must be 1 to 128 letters, digits, dots, underscores or hyphens.")
    return session_id


def _validation_error(exc: msgspec.ValidationError) -> InvalidField | UnknownMessage:
    what, path = _what_and_where(exc)
    if path == "type" and what.startswith("Invalid value"):
        known = ", ".join(sorted(message.__struct_config__.tag for message in _message_types()))
        return UnknownMessage(f"The server does not know this message type; it knows {known}.")
    return _invalid_field(exc)


def _message_types() -> tuple[Any, ...]:
    return ClientMessage.__args__


def _invalid_field(exc: msgspec.ValidationError) -> InvalidField:
    what, path = _what_and_where(exc)
    return InvalidField(f"Field {path}: {what}." if path else f"The message is not usable: {what}.")


def _what_and_where(exc: msgspec.ValidationError) -> tuple[str, str]:
    """msgspec says ``Expected `str`, got `int` - at `$.text```; what it quotes may be very long."""
    what, _, path = str(exc).rpartition(" - at `$")
    if not what:
        what, path = path, ""
    return what[:_MAX_QUOTED_CHARS].replace("`", "").rstrip("."), path.rstrip("`").lstrip(".")
