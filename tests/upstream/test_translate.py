from __future__ import annotations

import base64
from typing import Any

import pytest
from google.genai import types

from tornado_live.upstream.base import (
    AudioDelta,
    ConnectionEvent,
    GenerationComplete,
    GoAway,
    InputTranscript,
    InterimInputTranscript,
    Interrupted,
    OutputTranscript,
    ResumptionHandle,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnComplete,
    Usage,
)
from tornado_live.upstream.gemini import translate

PCM = bytes(range(0, 200, 2))
AUDIO = {"inline_data": {"mime_type": "audio/pcm;rate=24000", "data": base64.b64encode(PCM).decode()}}


def content(**fields: Any) -> dict[str, Any]:
    return {"server_content": fields}


@pytest.mark.parametrize(
    ("message", "events"),
    [
        ({}, []),
        ({"setup_complete": {}}, []),
        (content(model_turn={"parts": [AUDIO, AUDIO]}), [AudioDelta(PCM), AudioDelta(PCM)]),
        (
            content(model_turn={"parts": [{"text": "Hi"}, {"text": " you"}]}),
            [TextDelta("Hi"), TextDelta(" you")],
        ),
        (content(model_turn={"parts": [{"text": "hm", "thought": True}]}), []),
        (content(model_turn={"parts": [{"inline_data": {"mime_type": "image/png", "data": "AAAA"}}]}), []),
        (content(model_turn={}), []),
        (content(input_transcription={"text": "hi", "finished": True}), [InputTranscript("hi")]),
        (content(input_transcription={"finished": True}), []),
        (content(interim_input_transcription={"text": "h"}), [InterimInputTranscript("h")]),
        (content(output_transcription={"text": " hello"}), [OutputTranscript(" hello")]),
        (content(generation_complete=True), [GenerationComplete()]),
        (content(interrupted=True), [Interrupted()]),
        (content(turn_complete=True), [TurnComplete()]),
        (content(turn_complete=True, interaction_status="IDLE"), [TurnComplete()]),
        (content(turn_complete=True, interaction_status="REQUIRES_ACTION"), [TurnComplete()]),
        (content(turn_complete=True, interaction_status="IN_PROGRESS"), [TurnComplete(idle=False)]),
        (content(interaction_status="IDLE"), [TurnComplete()]),
        (content(interaction_status="IN_PROGRESS"), []),
        (
            content(turn_complete=True, turn_complete_reason="RESPONSE_REJECTED"),
            [TurnComplete("RESPONSE_REJECTED")],
        ),
        (
            content(turn_complete=True, turn_complete_reason="TURN_COMPLETE_REASON_UNSPECIFIED"),
            [TurnComplete()],
        ),
        (content(waiting_for_input=True), []),
        ({"go_away": {"time_left": "49.5s"}}, [GoAway(49.5)]),
        ({"go_away": {"time_left": "soon"}}, [GoAway(0.0)]),
        ({"go_away": {}}, [GoAway(0.0)]),
        (
            {"session_resumption_update": {"new_handle": "h", "resumable": True}},
            [ResumptionHandle("h")],
        ),
        ({"session_resumption_update": {"new_handle": "h", "resumable": False}}, [ResumptionHandle(None)]),
        ({"session_resumption_update": {}}, [ResumptionHandle(None)]),
        ({"voice_activity": {"voice_activity_type": "ACTIVITY_START"}}, [SpeechStarted()]),
        ({"voice_activity": {"voice_activity_type": "ACTIVITY_END"}}, [SpeechStopped()]),
        ({"voice_activity": {"voice_activity_type": "TYPE_UNSPECIFIED"}}, []),
        ({"voice_activity": {}}, []),
        ({"usage_metadata": {}}, [Usage()]),
        ({"tool_call": {"function_calls": [{"id": "1", "name": "f"}]}}, []),
    ],
)
def test_a_field_becomes_its_event(message: dict[str, Any], events: list[ConnectionEvent]) -> None:
    assert translate(types.LiveServerMessage.model_validate(message)) == events


def test_the_fields_of_one_message_always_come_in_the_same_order() -> None:
    message = {
        "session_resumption_update": {"new_handle": "h", "resumable": True},
        "go_away": {"time_left": "5s"},
        "usage_metadata": {
            "prompt_token_count": 522,
            "response_token_count": 42,
            "total_token_count": 564,
            "thoughts_token_count": 136,
            "prompt_tokens_details": [
                {"modality": "TEXT", "token_count": 332},
                {"modality": "AUDIO", "token_count": 165},
            ],
            "response_tokens_details": [{"modality": "AUDIO", "token_count": 42}],
        },
        "server_content": {
            "turn_complete": True,
            "interrupted": True,
            "generation_complete": True,
            "output_transcription": {"text": "out"},
            "input_transcription": {"text": "in"},
            "model_turn": {"parts": [{"text": "text"}, AUDIO]},
        },
    }
    assert translate(types.LiveServerMessage.model_validate(message)) == [
        AudioDelta(PCM),
        TextDelta("text"),
        InputTranscript("in"),
        OutputTranscript("out"),
        GenerationComplete(),
        Interrupted(),
        TurnComplete(),
        Usage(522, 42, 136, 564, (("text", 332), ("audio", 165)), (("audio", 42),)),
        GoAway(5.0),
        ResumptionHandle("h"),
    ]
