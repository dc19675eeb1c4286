"""What a session and its upstream say to each other: frozen events and two protocols, no I/O.

A *connection* is one real WebSocket to Gemini and lives some ten minutes. The *link* (`link.py`) is
what a session talks to; it may go through many connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tornado_live.errors import UpstreamError

Modality = Literal["text", "audio"]
TurnDetection = Literal["auto", "manual"]


@dataclass(frozen=True, slots=True)
class VoiceActivityDetection:
    """Gemini's own voice activity detection; None leaves a value to the model's default."""

    start_sensitivity: Literal["high", "low"] | None = None
    end_sensitivity: Literal["high", "low"] | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSetup:
    """What one conversation asks of the model; the same for every connection of its link.

    Attributes:
        model: the served model's name, without `models/`.
        modality: what the client wants; a text session on an audio-only model is asked for as audio
            with output transcription.
        input_transcription, output_transcription: transcribe the user, the model.
        compression: let the model's context slide instead of ending the session when it is full.
    """

    model: str
    modality: Modality = "text"
    input_transcription: bool = True
    output_transcription: bool = True
    voice: str | None = None
    language: str | None = None
    system_instruction: str | None = None
    turn_detection: TurnDetection = "auto"
    vad: VoiceActivityDetection = field(default_factory=VoiceActivityDetection)
    compression: bool = True


@dataclass(frozen=True, slots=True)
class HistoryTurn:
    """One side's contribution, to seed a fresh connection with when no handle is left."""

    role: Literal["user", "model"]
    text: str


# Events of a connection. One upstream message becomes a list of them, always in the order
# audio, text, transcripts, generation complete, interrupted, turn complete, usage, the rest.


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """The next piece of the model's voice: `audio.REPLY` samples, never cut inside a sample."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the model's written answer (text modality)."""

    text: str


@dataclass(frozen=True, slots=True)
class InputTranscript:
    """What the user said: the next piece, to be appended."""

    text: str


@dataclass(frozen=True, slots=True)
class InterimInputTranscript:
    """A guess at what the user is saying; the next guess, or an `InputTranscript`, replaces it."""

    text: str


@dataclass(frozen=True, slots=True)
class OutputTranscript:
    """What the model says: the next piece, to be appended."""

    text: str


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The model hears the user speak."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The model hears that the user has stopped."""


@dataclass(frozen=True, slots=True)
class GenerationComplete:
    """The reply is complete; its playback may not be."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The user spoke over the reply: what has not been played must be dropped."""


@dataclass(frozen=True, slots=True)
class TurnComplete:
    """The model's turn is over.

    Attributes:
        reason: why, where the model names a reason (`RESPONSE_REJECTED`, …).
        idle: False where the model says that more turns of the same answer follow.
    """

    reason: str | None = None
    idle: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens billed for one turn, as reported.

    Attributes:
        prompt_by_modality, response_by_modality: tokens by `text`, `audio`, …; they need not add up.
    """

    prompt_tokens: int = 0
    response_tokens: int = 0
    thoughts_tokens: int = 0
    total_tokens: int = 0
    prompt_by_modality: tuple[tuple[str, int], ...] = ()
    response_by_modality: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class GoAway:
    """The connection will be cut in `time_left_s` seconds. The link acts on it."""

    time_left_s: float


@dataclass(frozen=True, slots=True)
class ResumptionHandle:
    """A newer handle to resume by, or, with `handle` None, a moment that cannot be resumed."""

    handle: str | None


ConnectionEvent = (
    AudioDelta
    | TextDelta
    | InputTranscript
    | InterimInputTranscript
    | OutputTranscript
    | SpeechStarted
    | SpeechStopped
    | GenerationComplete
    | Interrupted
    | TurnComplete
    | Usage
    | GoAway
    | ResumptionHandle
)


# Events that only the link makes.


@dataclass(frozen=True, slots=True)
class LinkReady:
    """The first connection is set up: the conversation can begin."""


@dataclass(frozen=True, slots=True)
class LinkReconnecting:
    """The connection was lost; a new one is being dialled."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class LinkRotated:
    """A new connection has taken over.

    Attributes:
        gap_ms: from the old connection's close to the first audio on the new one.
        resumed: by handle; False: a fresh connection seeded with the history.
    """

    gap_ms: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class AudioDelivered:
    """All audio up to and including the piece with this `mark` has been given to the upstream socket."""

    mark: int


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The model owes an answer and gave none: `empty`, `silent`, `stalled`, `rejected`, `lost`.

    A `TurnComplete` follows at once.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class LinkFailed:
    """The link has given up; it is stopped."""

    error: UpstreamError


LinkEvent = (
    ConnectionEvent | LinkReady | LinkReconnecting | LinkRotated | AudioDelivered | TurnFailed | LinkFailed
)


class UpstreamConnection(Protocol):
    """One real connection, set up and ready. Sends may be concurrent; `receive` has one reader."""

    async def send_audio(self, pcm: bytes) -> None:
        """Sends `audio.TARGET` samples. Raises UpstreamError when the connection is gone, as all sends do."""

    async def send_text(self, text: str) -> None:
        """Sends a user turn in writing; the model answers it."""

    async def send_activity_start(self) -> None: ...

    async def send_activity_end(self) -> None: ...

    async def send_audio_stream_end(self) -> None: ...

    async def send_history(self, turns: Sequence[HistoryTurn]) -> None:
        """Seeds a fresh connection; the model does not answer."""

    def receive(self) -> AsyncIterator[list[ConnectionEvent]]:
        """Yields until the connection closes, then raises UpstreamError. Drain it always."""


class Connector(Protocol):
    """Dials. One per server; it owns the SDK's client."""

    def connect(
        self, setup: UpstreamSetup, *, handle: str | None = None, seeded: bool = False
    ) -> AbstractAsyncContextManager[UpstreamConnection]:
        """A connection that is set up on entry and closed on exit, in one task.

        Args:
            handle: resume the conversation that this handle stands for.
            seeded: `send_history` will be the first thing sent: the model waits for it.

        Raises (on entry):
            UpstreamError: refused, unreachable, or not set up within the connect timeout.
        """


class UpstreamLink(Protocol):
    """What a session talks to: one logical connection over as many real ones as it takes.

    Its events are `LinkEvent`s, given in order to the callback it was made with. No method blocks.
    """

    @property
    def handle(self) -> str | None:
        """The newest handle that the conversation can be resumed by."""

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that were accepted and not yet given to the upstream socket."""

    def start(self) -> None: ...

    async def wait_ready(self, timeout_s: float) -> bool:
        """True when set up, False when still connecting. Raises UpstreamError when refused."""

    def send_audio(self, pcm: bytes, *, mark: int | None = None) -> None:
        """Takes `audio.TARGET` samples; `AudioDelivered(mark)` follows.

        Raises:
            AudioTooFast: more is waiting than it is willing to hold.
        """

    def send_text(self, text: str) -> None: ...

    def activity_start(self) -> None: ...

    def activity_end(self) -> None: ...

    def end_of_stream(self) -> None:
        """The utterance is over: have the model answer now."""

    async def stop(self) -> None:
        """Closes the connection; everything is gone when it returns. May be called twice."""
