"""The Live models that are served, what each accepts, and the names that clients ask for them by.

Facts are those of ai.google.dev (model, deprecation and Live API pages) of November 2026; where Google
publishes none, what users saw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from tornado_live.errors import InvalidField, SettingsError, UnknownModel
from tornado_live.upstream.base import Modality, UpstreamSetup

VOICES = (
    "Zephyr", "Puck", "Charon", "Kore", "Fenrir", "Leda", "Orus", "Aoede", "Callirrhoe", "Autonoe",
    "Enceladus", "Iapetus", "Umbriel", "Algieba", "Despina", "Erinome", "Algenib", "Rasalgethi",
    "Laomedeia", "Achernar", "Alnilam", "Schedar", "Gacrux", "Pulcherrima", "Achird",
    "Zubenelgenubi", "Vindemiatrix", "Sadachbia", "Sadaltager", "Sulafat",
)  # fmt: skip

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
"""A BCP 47 language tag (RFC 5646, section 2.1) as far as Gemini uses them: `en`, `pt-BR`, `zh-Hant-TW`."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What one served model accepts and does.

    Attributes:
        name: without `models/`.
        modalities: what it can answer in.
        honours_audio_stream_end: `audioStreamEnd` ends the user's turn.
        needs_trailing_audio: notices that the user has stopped only while audio goes on arriving.
        may_stay_silent: decides by itself whether speech is meant for it (proactive audio, always on).
        accepts_language: takes a language for its speech and transcripts; others find it out.
        accepts_manual_turns: turn detection can be switched off (`activityStart`, `activityEnd`).
        max_connection_age_s: Google closes a connection at this age.
        voices: names of the voices it speaks with.
    """

    name: str
    modalities: frozenset[Modality] = frozenset({"audio"})
    honours_audio_stream_end: bool = True
    needs_trailing_audio: bool = False
    may_stay_silent: bool = False
    accepts_language: bool = False
    accepts_manual_turns: bool = True
    max_connection_age_s: float = 600.0
    voices: tuple[str, ...] = VOICES

    @property
    def audio_only(self) -> bool:
        return "text" not in self.modalities


def _live_3_8(name: str) -> ModelProfile:
    return ModelProfile(
        name,
        honours_audio_stream_end=False,
        needs_trailing_audio=True,
        may_stay_silent=True,
        accepts_language=True,
        # Closed at exactly 58 minutes and without goAway, users report; the documented 10 minutes
        # hold for the older models.
        max_connection_age_s=3480.0,
    )


PROFILES: Mapping[str, ModelProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            _live_3_8("gemini-3.8-live"),
            _live_3_8("gemini-3.8-live-extended-thinking"),
            ModelProfile("gemini-3.1-flash-live-preview"),
            ModelProfile("gemini-2.5-flash-native-audio-preview-12-2025"),
            ModelProfile("gemini-2.5-flash-native-audio-latest"),
        )
    }
)
"""By served name. Models for translation or transcription alone need another set-up and are not here."""


class ModelCatalogue:
    """Which served model answers to which name.

    Args:
        default_model: an alias or a served name, for clients that ask for none.
        aliases: served name by asked-for name.

    Raises:
        SettingsError: an alias or the default names a model that is not served.
    """

    def __init__(self, default_model: str, aliases: Mapping[str, str]) -> None:
        self._default = _bare(default_model)
        self._served = dict(PROFILES)
        problems = []
        for asked, served in aliases.items():
            profile = PROFILES.get(_bare(served))
            if profile is None:
                problems.append(
                    f"gemini.aliases.{asked}: {served} is not served; choose one of {', '.join(PROFILES)}."
                )
            else:
                self._served[_bare(asked)] = profile
        if not problems and self._default not in self._served:
            problems.append(
                f"gemini.default_model: {default_model} is not served; choose one of {', '.join(PROFILES)}."
            )
        if problems:
            raise SettingsError(problems)

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may ask for."""
        return tuple(sorted(self._served))

    def resolve(self, asked: str | None) -> tuple[str, ModelProfile]:
        """The name that the client asked for, without `models/`, and the model that serves it.

        Raises:
            UnknownModel: neither a served name nor an alias; the sentence lists both.
        """
        name = self._default if asked is None else _bare(asked)
        profile = self._served.get(name)
        if profile is None:
            raise UnknownModel(f"The server does not know this model; choose one of {', '.join(self.names)}.")
        return name, profile


def _bare(name: str) -> str:
    return name.strip().removeprefix("models/")


def adapt(setup: UpstreamSetup, profile: ModelProfile) -> UpstreamSetup:
    """The set-up as this model takes it. Adapting twice changes nothing more.

    A text session on an audio-only model becomes audio with output transcription; a language is left
    out where the model finds it out by itself.

    Raises:
        InvalidField: the model has no such voice or turn detection, or the language is not a tag.
    """
    changes: dict[str, object] = {"model": profile.name}
    if setup.modality not in profile.modalities:
        if setup.modality == "audio":
            raise InvalidField(f"{profile.name} does not answer in audio.")
        changes |= {"modality": "audio", "output_transcription": True}
    if setup.voice is not None:
        changes["voice"] = _voice(setup.voice, profile)
    if setup.language is not None:
        if not _LANGUAGE_TAG.fullmatch(setup.language):
            raise InvalidField("language must be a language tag such as en or pt-BR.")
        if not profile.accepts_language:
            changes["language"] = None
    if setup.turn_detection == "manual" and not profile.accepts_manual_turns:
        raise InvalidField(f"{profile.name} does not take turn_detection manual.")
    return replace(setup, **changes)  # type: ignore[arg-type]


def _voice(asked: str, profile: ModelProfile) -> str:
    for voice in profile.voices:
        if voice.lower() == asked.lower():
            return voice
    raise InvalidField(f"voice must be one of {', '.join(profile.voices)}.")
