"""What a session is started with, checked and complete."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from tornado_live.audio import StreamFormat
from tornado_live.errors import InvalidField
from tornado_live.upstream.base import Modality, TurnDetection
from tornado_live.wire.requests import AudioFields, StartFields

AudioDelivery = Literal["buffer", "stream"]
MAX_RATE_HZ = 2**31 - 1
MAX_CHANNELS = 65_535


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The client's wishes for one session.

    Attributes:
        model: the name that was asked for; None for the server's default.
        stream: how binary frames, and chunks that declare nothing, are to be understood.
        audio_delivery: `buffer`: the reply's audio as one WAV at the end of the exchange; `stream`: in
            pieces as it is spoken.
    """

    model: str | None = None
    modality: Modality = "text"
    input_transcription: bool = True
    output_transcription: bool = True
    stream: StreamFormat = StreamFormat()
    audio_delivery: AudioDelivery = "buffer"
    turn_detection: TurnDetection = "auto"
    language: str | None = None
    voice: str | None = None
    system_instruction: str | None = None

    @classmethod
    def from_fields(cls, fields: StartFields) -> Self:
        """Raises InvalidField, naming the field and what it may be."""
        return cls(
            model=fields.model or None,
            modality=_choice("response_modality", fields.response_modality, "text", ("text", "audio")),
            input_transcription=fields.input_transcription is not False,
            output_transcription=fields.output_transcription is not False,
            stream=declared_format(fields, StreamFormat()),
            audio_delivery=_choice("audio_delivery", fields.audio_delivery, "buffer", ("buffer", "stream")),
            turn_detection=_choice("turn_detection", fields.turn_detection, "auto", ("auto", "manual")),
            language=fields.language or None,
            voice=fields.voice or None,
            system_instruction=fields.system_instruction or None,
        )

    @property
    def shows_reply_text(self) -> bool:
        """In the audio modality the reply's text is its transcription, which can be hidden."""
        return self.output_transcription or self.modality == "text"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        return cls(**{**stored, "stream": StreamFormat(**stored["stream"])})


def declared_format(fields: StartFields | AudioFields, default: StreamFormat) -> StreamFormat:
    """What a message says of its audio, completed by what the session was started with.

    Raises:
        InvalidField: rate or channels are not positive.
    """
    rate_hz, channels = fields.sample_rate, fields.channels
    if rate_hz is None and channels is None and not fields.format:
        return default
    if rate_hz is not None and not 1 <= rate_hz <= MAX_RATE_HZ:
        raise InvalidField("sample_rate must be a positive number of samples a second.")
    if channels is not None and not 1 <= channels <= MAX_CHANNELS:
        raise InvalidField("channels must be a positive number.")
    return StreamFormat(
        label=fields.format.strip().lower() if fields.format else default.label,
        rate_hz=rate_hz or default.rate_hz,
        channels=channels or default.channels,
    )


def _choice(field: str, value: str | None, default: str, allowed: tuple[str, ...]) -> Any:
    chosen = (value or default).strip().lower()
    if chosen not in allowed:
        raise InvalidField(f"{field} must be {' or '.join(allowed)}.")
    return chosen
