from __future__ import annotations

from dataclasses import replace

import pytest

from tornado_live.errors import InvalidField, SettingsError, UnknownModel
from tornado_live.settings.models import GeminiSettings
from tornado_live.upstream.base import UpstreamSetup
from tornado_live.upstream.models import PROFILES, ModelCatalogue, adapt

DEFAULTS = GeminiSettings()


@pytest.fixture
def catalogue() -> ModelCatalogue:
    return ModelCatalogue(DEFAULTS.default_model, DEFAULTS.aliases)


@pytest.mark.parametrize(
    ("asked", "name", "served"),
    [
        (None, "gemini-3.8-live", "gemini-3.8-live"),
        ("gemini-3.8-live", "gemini-3.8-live", "gemini-3.8-live"),
        ("models/gemini-3.8-live", "gemini-3.8-live", "gemini-3.8-live"),
        ("gemini-2.0-flash-exp", "gemini-2.0-flash-exp", "gemini-3.8-live"),
        ("models/gemini-2.0-flash-exp", "gemini-2.0-flash-exp", "gemini-3.8-live"),
        (
            "gemini-2.5-flash-exp-native-audio-thinking-dialog",
            "gemini-2.5-flash-exp-native-audio-thinking-dialog",
            "gemini-3.8-live-extended-thinking",
        ),
    ],
)
def test_a_model_is_found_by_alias_and_by_served_name(
    catalogue: ModelCatalogue, asked: str | None, name: str, served: str
) -> None:
    found, profile = catalogue.resolve(asked)
    assert (found, profile.name) == (name, served)


@pytest.mark.parametrize("asked", ["gpt-4", "", "models/", "gemini-3.8-live/../x"])
def test_an_unknown_model_is_refused_with_all_names_that_are_accepted(
    catalogue: ModelCatalogue, asked: str
) -> None:
    with pytest.raises(UnknownModel) as refused:
        catalogue.resolve(asked)
    for name in (*PROFILES, *DEFAULTS.aliases):
        assert name in refused.value.message


def test_an_alias_to_a_model_that_is_not_served_is_a_settings_error() -> None:
    with pytest.raises(SettingsError) as refused:
        ModelCatalogue("gemini-3.8-live", {"mine": "gemini-9", "yours": "gemini-10"})
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "gemini.aliases.mine",
        "gemini.aliases.yours",
    ]


def test_a_default_that_is_not_served_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"gemini\.default_model"):
        ModelCatalogue("gemini-9", {})


def test_a_text_session_on_an_audio_only_model_asks_for_audio_and_its_transcript() -> None:
    asked = UpstreamSetup("any", modality="text", output_transcription=False)
    adapted = adapt(asked, PROFILES["gemini-3.8-live"])
    assert (adapted.model, adapted.modality, adapted.output_transcription) == (
        "gemini-3.8-live",
        "audio",
        True,
    )


def test_a_text_session_on_a_model_that_writes_stays_one() -> None:
    writer = replace(PROFILES["gemini-3.8-live"], modalities=frozenset({"text"}))
    assert adapt(UpstreamSetup("any", modality="text"), writer).modality == "text"
    with pytest.raises(InvalidField, match="audio"):
        adapt(UpstreamSetup("any", modality="audio"), writer)


def test_adapting_twice_changes_nothing_more() -> None:
    profile = PROFILES["gemini-2.5-flash-native-audio-latest"]
    once = adapt(UpstreamSetup("any", voice="kore", language="de"), profile)
    assert adapt(once, profile) == once


def test_a_voice_is_known_in_any_case_and_an_unknown_one_is_refused_with_the_list() -> None:
    profile = PROFILES["gemini-3.8-live"]
    assert adapt(UpstreamSetup("any", voice="kORE"), profile).voice == "Kore"
    with pytest.raises(InvalidField) as refused:
        adapt(UpstreamSetup("any", voice="Alexa"), profile)
    assert all(voice in refused.value.message for voice in profile.voices)


def test_a_language_goes_only_to_models_that_take_one() -> None:
    asked = UpstreamSetup("any", language="pt-BR")
    assert adapt(asked, PROFILES["gemini-3.8-live"]).language == "pt-BR"
    assert adapt(asked, PROFILES["gemini-3.1-flash-live-preview"]).language is None


@pytest.mark.parametrize("language", ["english please", "e", "de_DE", "", "en-"])
def test_a_language_that_is_no_tag_is_refused(language: str) -> None:
    with pytest.raises(InvalidField, match="language"):
        adapt(UpstreamSetup("any", language=language), PROFILES["gemini-3.1-flash-live-preview"])


def test_manual_turns_are_refused_where_the_model_has_none() -> None:
    profile = replace(PROFILES["gemini-3.8-live"], accepts_manual_turns=False)
    with pytest.raises(InvalidField, match="turn_detection"):
        adapt(UpstreamSetup("any", turn_detection="manual"), profile)
