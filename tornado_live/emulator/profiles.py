"""The models that the emulator plays, and what each accepts and does.

Facts are from Google's model pages and reports of late 2026; where a number is not published, it is what
users saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tornado_live.emulator.protocol import INVALID_ARGUMENT, ProtocolError
from tornado_live.emulator.schema import Setup, Tool


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """
    Attributes:
        modalities: what it can answer in.
        thinking: how its thinking is set, None where sending a thinking config is an error.
        affective_dialog: accepts `enableAffectiveDialog`.
        proactivity: `always` (switching it off is an error), `optional` or `unsupported`.
        tool_behaviors: accepted `behavior` of function declarations, the default first.
        tool_scheduling: accepts `scheduling` in function responses.
        input_during_tool_call: accepts realtime input while a function call is open.
        bundles_fields: one server message may carry several fields (audio and its transcript).
        pieces_of_input: sends the input transcript word by word, not in one piece after the speech.
        interim_transcripts: sends guesses while the user speaks.
        always_transcribes_output: sends the output transcript unasked.
        interaction_status: sends `interactionStatus` with `turnComplete`.
        audio_stream_end_ends_turn: `audioStreamEnd` ends the user's turn.
        fillers: speaks filler turns (`IN_PROGRESS`) before the answer (`IDLE`).
        lifetime_s: a connection is closed at this age, with `expiry_code` and `expiry_reason`.
        go_away_s: seconds before that at which goAway comes; None: it does not come.
        retired: shut down by Google; refused unless the scenario brings such models back.
    """

    name: str
    modalities: tuple[str, ...] = ("AUDIO",)
    thinking: Literal["level", "budget"] | None = None
    affective_dialog: bool = False
    proactivity: Literal["always", "optional", "unsupported"] = "unsupported"
    tool_behaviors: tuple[str, ...] = ("BLOCKING",)
    tool_scheduling: bool = False
    input_during_tool_call: bool = True
    bundles_fields: bool = True
    pieces_of_input: bool = False
    interim_transcripts: bool = True
    always_transcribes_output: bool = False
    interaction_status: bool = False
    audio_stream_end_ends_turn: bool = True
    fillers: bool = False
    lifetime_s: float = 600.0
    go_away_s: float | None = 60.0
    expiry_code: int = 1008
    expiry_reason: str = "The operation was aborted."
    context_tokens: int = 131_072
    retired: bool = False

    def check(self, setup: Setup) -> None:
        """
        Raises:
            ProtocolError: 1007, the model does not accept this set-up.
        """
        generation = setup.generation_config
        modalities = set(generation.response_modalities)
        if len(modalities) > 1:
            raise ProtocolError(1007, "At most one response modality can be specified in the setup request.")
        if modalities - set(self.modalities):
            raise ProtocolError(
                1007,
                f"Cannot extract voices from a non-audio request. {self.name} answers in "
                f"{' or '.join(self.modalities)} only.",
            )
        if generation.thinking_config is not None:
            self._check_thinking(setup)
        if generation.enable_affective_dialog is not None and not self.affective_dialog:
            raise ProtocolError(1007, INVALID_ARGUMENT)
        if setup.proactivity is not None:
            self._check_proactivity(setup.proactivity.proactive_audio)
        if setup.session_resumption is not None and setup.session_resumption.transparent is not None:
            raise ProtocolError(1007, INVALID_ARGUMENT)
        voice = generation.speech_config.voice_name if generation.speech_config else None
        if voice is not None and voice not in VOICES:
            raise ProtocolError(
                1007, f"Requested voice api_name '{voice}' is not available for model {self.name}"
            )
        self.check_tools(setup.tools)

    def _check_thinking(self, setup: Setup) -> None:
        config = setup.generation_config.thinking_config
        assert config is not None
        if self.thinking is None:
            raise ProtocolError(1007, "Thinking level is not supported for this model")
        if self.thinking == "level" and config.thinking_budget is not None:
            raise ProtocolError(1007, "Thinking budget is not supported for this model")
        if self.thinking == "budget" and config.thinking_level is not None:
            raise ProtocolError(1007, "Thinking level is not supported for this model")

    def _check_proactivity(self, proactive_audio: bool | None) -> None:
        if self.proactivity == "unsupported" or (self.proactivity == "always" and proactive_audio is False):
            raise ProtocolError(1007, INVALID_ARGUMENT)

    def check_tools(self, tools: tuple[Tool, ...]) -> None:
        """
        Raises:
            ProtocolError: 1007, a function declaration asks for a behaviour that the model does not have.
        """
        for tool in tools:
            for function in tool.function_declarations:
                if function.behavior not in ("UNSPECIFIED", *self.tool_behaviors):
                    raise ProtocolError(
                        1007, f"Function behavior {function.behavior} is not supported for this model"
                    )


# fmt: off
VOICES = frozenset({
    "Zephyr", "Puck", "Charon", "Kore", "Fenrir", "Leda", "Orus", "Aoede",
    "Callirrhoe", "Autonoe", "Enceladus", "Iapetus", "Umbriel", "Algieba", "Despina", "Erinome",
    "Algenib", "Rasalgethi", "Laomedeia", "Achernar", "Alnilam", "Schedar", "Gacrux", "Pulcherrima",
    "Achird", "Zubenelgenubi", "Vindemiatrix", "Sadachbia", "Sadaltager", "Sulafat",
})
# fmt: on

_LIVE_3_8 = {
    "proactivity": "always",
    "always_transcribes_output": True,
    "interaction_status": True,
    "audio_stream_end_ends_turn": False,
    "lifetime_s": 3480.0,
    "go_away_s": None,
    "expiry_code": 1011,
    "expiry_reason": "Deadline expired before operation could complete.",
}
_NATIVE_2_5 = {
    "thinking": "budget",
    "affective_dialog": True,
    "proactivity": "optional",
    "tool_behaviors": ("BLOCKING", "NON_BLOCKING"),
    "tool_scheduling": True,
    "input_during_tool_call": False,
    "bundles_fields": False,
    "pieces_of_input": True,
    "interim_transcripts": False,
}
_HALF_CASCADE = {
    "modalities": ("TEXT", "AUDIO"),
    "tool_behaviors": ("BLOCKING", "NON_BLOCKING"),
    "tool_scheduling": True,
    "bundles_fields": False,
    "pieces_of_input": True,
    "interim_transcripts": False,
    "retired": True,
}


def _profile(name: str, habits: dict[str, object], **more: object) -> ModelProfile:
    return ModelProfile(name, **{**habits, **more})  # type: ignore[arg-type]


PROFILES: dict[str, ModelProfile] = {
    profile.name: profile
    for profile in (
        _profile(
            "gemini-3.8-live", _LIVE_3_8, tool_behaviors=("NON_BLOCKING", "BLOCKING"), tool_scheduling=True
        ),
        _profile(
            "gemini-3.8-live-extended-thinking",
            _LIVE_3_8,
            thinking="level",
            tool_behaviors=("NON_BLOCKING",),
            fillers=True,
        ),
        _profile("gemini-3.1-flash-live-preview", {}, thinking="level", input_during_tool_call=False),
        _profile("gemini-2.5-flash-native-audio-preview-12-2025", _NATIVE_2_5),
        _profile("gemini-2.5-flash-native-audio-latest", _NATIVE_2_5),
        _profile("gemini-2.5-flash-native-audio-preview-09-2025", _NATIVE_2_5, retired=True),
        _profile("gemini-live-2.5-flash-preview", _HALF_CASCADE),
        _profile("gemini-2.0-flash-live-001", _HALF_CASCADE),
    )
}


def find_profile(model: str, api_version: str, *, retired_models: bool = False) -> ModelProfile:
    """
    Args:
        model: as sent, `models/NAME`.

    Raises:
        ProtocolError: 1008 in Google's words, there is no such model (any more).
    """
    profile = PROFILES.get(model.removeprefix("models/"))
    if profile is None or (profile.retired and not retired_models):
        raise ProtocolError(
            1008,
            f"{model} is not found for API version {api_version}, or is not supported for "
            "bidiGenerateContent. Call ListModels to see the list of available models and their supported "
            "methods.",
        )
    return profile
