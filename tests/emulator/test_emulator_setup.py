"""What the emulator refuses, with which code and in which words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets
from raw_client import RawClient, StartEmulator

from tornado_live.emulator import Emulator

THINKING = "gemini-3.8-live-extended-thinking"
NATIVE_2_5 = "gemini-2.5-flash-native-audio-preview-12-2025"
UNKNOWN_NAME = "Invalid JSON payload received. Unknown name"
INVALID = "Request contains an invalid argument."


def declaring(behavior: str) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [{"name": "f", "behavior": behavior}]}]}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("model", "setup", "code", "reason"),
    [
        ("no-such-model", {}, 1008, "models/no-such-model is not found for API version v1beta"),
        ("gemini-2.0-flash-live-001", {}, 1008, "is not found for API version v1beta"),
        ("gemini-3.8-live", {"generationConfig": {"responseModalities": ["TEXT"]}}, 1007, "AUDIO only"),
        (
            "gemini-3.8-live",
            {"generationConfig": {"responseModalities": ["TEXT", "AUDIO"]}},
            1007,
            "At most one",
        ),
        (
            "gemini-3.8-live",
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}},
            1007,
            "Thinking level is not supported for this model",
        ),
        (THINKING, {"generationConfig": {"thinkingConfig": {"thinkingBudget": 5}}}, 1007, "Thinking budget"),
        ("gemini-3.8-live", {"generationConfig": {"enableAffectiveDialog": True}}, 1007, INVALID),
        ("gemini-3.8-live", {"proactivity": {"proactiveAudio": False}}, 1007, INVALID),
        ("gemini-3.1-flash-live-preview", {"proactivity": {"proactiveAudio": True}}, 1007, INVALID),
        (THINKING, declaring("BLOCKING"), 1007, "Function behavior BLOCKING"),
        ("gemini-3.8-live", {"sessionResumption": {"transparent": True}}, 1007, INVALID),
        (
            "gemini-3.8-live",
            {"sessionResumption": {"handle": "h0"}},
            1008,
            "BidiGenerateContent session not found",
        ),
        (
            "gemini-3.8-live",
            {
                "generation_config": {
                    "speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Bob"}}}
                }
            },
            1007,
            "'Bob'",
        ),
        (
            "gemini-3.8-live",
            {"colour": "red"},
            1007,
            f"{UNKNOWN_NAME} \"colour\" at 'setup': Cannot find field.",
        ),
        (
            "gemini-3.8-live",
            {"generationConfig": {"speechConfig": {"pitch": 1}}},
            1007,
            f"{UNKNOWN_NAME} \"pitch\" at 'setup.generation_config.speech_config'",
        ),
        (
            "gemini-3.8-live",
            {"generationConfig": {"responseModalities": ["SMELL"]}},
            1007,
            "Invalid value at 'setup.generation_config.response_modalities[0]', \"SMELL\"",
        ),
    ],
)
async def test_a_bad_setup_is_refused_in_googles_words(
    emulator: Emulator, model: str, setup: dict[str, Any], code: int, reason: str
) -> None:
    client = await RawClient.dial(emulator)
    await client.send({"setup": {"model": f"models/{model}", **setup}})
    closed = await client.closed()
    assert closed[0] == code
    assert reason in closed[1]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "setup",
    [
        {"generation_config": {"response_modalities": ["AUDIO"], "temperature": 0.5}, "labels": {"a": "b"}},
        {"contextWindowCompression": {"triggerTokens": "25600", "sliding_window": {"targetTokens": 12800}}},
        {"tools": [{"googleSearch": {}}], "systemInstruction": None, "safetySettings": [{"category": "X"}]},
        {
            "generationConfig": {
                "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}}
            }
        },
    ],
)
async def test_both_casings_strings_for_int64_and_nulls_are_accepted(
    emulator: Emulator, setup: dict[str, Any]
) -> None:
    client = await RawClient.open(emulator, **setup)
    await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"setup": {"model": "models/gemini-3.8-live"}}, INVALID),
        ({}, INVALID),
        ({"clientContent": {"turnComplete": True}, "toolResponse": {}}, INVALID),
        ({"realtimeInput": {"activityStart": {}}}, INVALID),
        ({"realtimeInput": {"audio": {"data": "AAAA", "mimeType": "audio/webm"}}}, INVALID),
        ({"realtimeInput": {"audio": {"data": "!"}}}, "Invalid value at 'realtime_input.audio.data'"),
        ({"toolResponse": {"functionResponses": [{"id": "never-asked", "name": "f"}]}}, INVALID),
        ({"shout": {}}, f'{UNKNOWN_NAME} "shout": Cannot find field.'),
    ],
)  # fmt: skip
async def test_a_wrong_message_closes_the_connection(
    emulator: Emulator, message: dict[str, Any], reason: str
) -> None:
    client = await RawClient.open(emulator)
    await client.send(message)
    closed = await client.closed()
    assert closed[0] == 1007
    assert closed[1].startswith(reason[:100])


@pytest.mark.gen_test
async def test_audio_stream_end_belongs_to_automatic_detection(emulator: Emulator) -> None:
    config = {"automaticActivityDetection": {"disabled": True}}
    client = await RawClient.open(emulator, realtimeInputConfig=config)
    await client.send({"realtimeInput": {"audioStreamEnd": True}})
    assert await client.closed() == (1007, INVALID)


@pytest.mark.gen_test
@pytest.mark.parametrize("first", ["hello", '{"clientContent": {"turnComplete": true}}'])
async def test_the_first_message_must_be_setup(emulator: Emulator, first: str) -> None:
    client = await RawClient.dial(emulator)
    await client.socket.send(first)
    code, _reason = await client.closed()
    assert code == 1007


@pytest.mark.gen_test
async def test_a_client_that_never_sets_up_is_closed(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator({"time_scale": 100.0})
    client = await RawClient.dial(emulator)
    assert await client.closed() == (1007, INVALID)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("query", "headers"),
    [("?key=x", {}), ("?access_token=auth_tokens/t", {}), ("", {"x-goog-api-key": "x"})],
)
async def test_a_key_may_come_in_a_header_or_in_the_address(
    emulator: Emulator, query: str, headers: dict[str, str]
) -> None:
    client = await RawClient.dial(emulator, query=query, additional_headers=headers)
    await client.close()


@pytest.mark.gen_test
async def test_without_a_key_the_upgrade_is_refused(emulator: Emulator) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await RawClient.dial(emulator, query="")
    assert refused.value.response.status_code == 403
    assert b"PERMISSION_DENIED" in (refused.value.response.body or b"")


@pytest.mark.gen_test
async def test_server_messages_are_json_in_binary_frames(emulator: Emulator) -> None:
    client = await RawClient.dial(emulator)
    await client.send({"setup": {"model": "models/gemini-3.8-live"}})
    async with asyncio.timeout(5):
        frame = await client.socket.recv()
    assert frame == b'{\n  "setupComplete": {}\n}\n'
    await client.close()


@pytest.mark.gen_test
async def test_bytes_in_the_url_safe_alphabet_without_padding_are_read(emulator: Emulator) -> None:
    client = await RawClient.open(emulator)
    await client.send({"realtime_input": {"audio": {"data": "_-_-_w", "mime_type": "audio/pcm;rate=16000"}}})
    await client.say("still there")
    await client.turn()
    [entry] = emulator.journal.select("realtimeInput.audio")
    assert entry["audio_bytes"] == 4
    await client.close()
