"""What a client may say, as types: the fields of `BidiGenerateContentClientMessage`, v1beta.

ProtoJSON: keys in snake_case or camelCase, bytes in either base64 alphabet, padded or not, int64 maybe as a
string, null as if left out. Fields of which the emulator reads nothing are `Any`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pybase64
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

_URL_SAFE = str.maketrans("-_", "+/")


def decode_base64(value: object) -> bytes:
    """Both alphabets, with or without padding. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("Base64 decoding failed")
    if "-" in value or "_" in value:
        value = value.translate(_URL_SAFE)
    value = value.rstrip("=")
    return pybase64.b64decode(value + "=" * (-len(value) % 4), validate=True)


Base64 = Annotated[bytes, BeforeValidator(decode_base64)]


class Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)


class Blob(Fields):
    data: Base64 = b""
    mime_type: str = ""
    display_name: str | None = None

    @property
    def rate_hz(self) -> int:
        """The `rate` of an `audio/pcm` type, 16,000 where it says none."""
        match = re.search(r"rate=(\d+)", self.mime_type)
        return int(match[1]) if match else 16_000


class Part(Fields):
    text: str | None = None
    inline_data: Blob | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    file_data: Any = None
    function_call: Any = None
    function_response: Any = None
    executable_code: Any = None
    code_execution_result: Any = None
    video_metadata: Any = None
    media_resolution: Any = None
    part_metadata: Any = None


class Content(Fields):
    parts: tuple[Part, ...] = ()
    role: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)


Modality = Literal["MODALITY_UNSPECIFIED", "TEXT", "AUDIO", "IMAGE", "VIDEO"]


class ThinkingConfig(Fields):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class PrebuiltVoiceConfig(Fields):
    voice_name: str | None = None


class VoiceConfig(Fields):
    prebuilt_voice_config: PrebuiltVoiceConfig | None = None
    replicated_voice_config: Any = None
    voice: str | None = None


class SpeechConfig(Fields):
    voice_config: VoiceConfig | None = None
    multi_speaker_voice_config: Any = None
    language_code: str | None = None

    @property
    def voice_name(self) -> str | None:
        prebuilt = self.voice_config.prebuilt_voice_config if self.voice_config else None
        return prebuilt.voice_name if prebuilt else None


class GenerationConfig(Fields):
    response_modalities: tuple[Modality, ...] = ()
    speech_config: SpeechConfig | None = None
    thinking_config: ThinkingConfig | None = None
    enable_affective_dialog: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    media_resolution: str | None = None
    translation_config: Any = None
    response_mime_type: str | None = None
    response_schema: Any = None
    response_json_schema: Any = None


class AudioTranscriptionConfig(Fields):
    language_codes: tuple[str, ...] = ()
    custom_vocabulary: tuple[str, ...] = ()
    word_timestamp: bool | None = None
    diarization: bool | None = None
    mode: str | None = None
    source_text: str | None = None
    language_auto: Any = None
    language_hints: Any = None
    adaptation_phrases: tuple[str, ...] = ()


class AutomaticActivityDetection(Fields):
    disabled: bool = False
    start_of_speech_sensitivity: Literal[
        "START_SENSITIVITY_UNSPECIFIED", "START_SENSITIVITY_HIGH", "START_SENSITIVITY_LOW"
    ] = "START_SENSITIVITY_UNSPECIFIED"
    end_of_speech_sensitivity: Literal[
        "END_SENSITIVITY_UNSPECIFIED", "END_SENSITIVITY_HIGH", "END_SENSITIVITY_LOW"
    ] = "END_SENSITIVITY_UNSPECIFIED"
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None


class RealtimeInputConfig(Fields):
    automatic_activity_detection: AutomaticActivityDetection = AutomaticActivityDetection()
    activity_handling: Literal[
        "ACTIVITY_HANDLING_UNSPECIFIED", "START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"
    ] = "ACTIVITY_HANDLING_UNSPECIFIED"
    turn_coverage: str | None = None
    interim_transcript_timestamp_enabled: bool | None = None


class SessionResumption(Fields):
    handle: str | None = None
    transparent: bool | None = None


class SlidingWindow(Fields):
    target_tokens: int | None = None


class ContextWindowCompression(Fields):
    trigger_tokens: int | None = None
    sliding_window: SlidingWindow | None = None


class Proactivity(Fields):
    proactive_audio: bool | None = None
    proactive_video: bool | None = None


class HistoryConfig(Fields):
    initial_history_in_client_content: bool = False


class FunctionDeclaration(Fields):
    name: str
    description: str | None = None
    parameters: Any = None
    parameters_json_schema: Any = None
    response: Any = None
    response_json_schema: Any = None
    behavior: Literal["UNSPECIFIED", "BLOCKING", "NON_BLOCKING"] = "UNSPECIFIED"


class Tool(Fields):
    function_declarations: tuple[FunctionDeclaration, ...] = ()
    google_search: Any = None
    google_search_retrieval: Any = None
    code_execution: Any = None
    url_context: Any = None
    google_maps: Any = None
    file_search: Any = None
    computer_use: Any = None
    mcp_servers: Any = None


class Setup(Fields):
    model: str
    generation_config: GenerationConfig = GenerationConfig()
    system_instruction: Content | None = None
    tools: tuple[Tool, ...] = ()
    session_resumption: SessionResumption | None = None
    input_audio_transcription: AudioTranscriptionConfig | None = None
    output_audio_transcription: AudioTranscriptionConfig | None = None
    realtime_input_config: RealtimeInputConfig = RealtimeInputConfig()
    context_window_compression: ContextWindowCompression | None = None
    proactivity: Proactivity | None = None
    history_config: HistoryConfig = HistoryConfig()
    avatar_config: Any = None
    explicit_vad_signal: bool | None = None
    safety_settings: Any = None
    labels: dict[str, str] | None = None


class ClientContent(Fields):
    turns: tuple[Content, ...] = ()
    turn_complete: bool = False


class RealtimeInput(Fields):
    """Fields are taken in this order where one message has several."""

    activity_start: dict[str, Any] | None = None
    audio: Blob | None = None
    media_chunks: tuple[Blob, ...] = ()
    video: Blob | None = None
    text: str | None = None
    activity_end: dict[str, Any] | None = None
    audio_stream_end: bool = False


class FunctionResponse(Fields):
    id: str | None = None
    name: str | None = None
    response: dict[str, Any] | None = None
    scheduling: Literal["SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"] | None = None
    will_continue: bool | None = None
    parts: Any = None


class ToolResponse(Fields):
    function_responses: tuple[FunctionResponse, ...] = ()


class ToolUpdate(Fields):
    tools: tuple[Tool, ...] = ()


class ContextUpdate(Fields):
    system_instruction: Content | None = None
    tools: ToolUpdate | None = None


class ClientMessage(Fields):
    setup: Setup | None = None
    client_content: ClientContent | None = None
    realtime_input: RealtimeInput | None = None
    tool_response: ToolResponse | None = None
    context_update: ContextUpdate | None = None
