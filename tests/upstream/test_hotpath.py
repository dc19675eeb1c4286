from __future__ import annotations

import base64
import json

import pytest
from google.genai import types

from tornado_live.upstream.base import AudioDelta, ConnectionEvent, InputTranscript, OutputTranscript
from tornado_live.upstream.gemini import translate
from tornado_live.upstream.hotpath import encode_audio, parse

PCM = bytes(range(256)) * 8
DATA = base64.b64encode(PCM).decode()
TURN = {"role": "model", "parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": DATA}}]}


def message(indent: int | None = None, **content: object) -> bytes:
    return json.dumps({"serverContent": content}, indent=indent).encode()


def through_the_sdk(raw: bytes) -> list[ConnectionEvent]:
    return translate(types.LiveServerMessage.model_validate(json.loads(raw)))


HOT = [
    message(modelTurn=TURN),
    message(modelTurn=TURN, indent=2) + b"\n",
    message(modelTurn={"parts": TURN["parts"]}),
    message(modelTurn={"role": "model", "parts": [*TURN["parts"], *TURN["parts"]]}),
    message(modelTurn=TURN, outputTranscription={"text": " hi"}),
    message(outputTranscription={"text": " hi"}, modelTurn=TURN, inputTranscription={"text": "you"}),
    message(inputTranscription={"text": 'Grüße \ud83d\ude00 "x"'}),
    message(inputTranscription={"text": ""}),
    message(),
]


@pytest.mark.parametrize("raw", HOT)
def test_a_message_of_the_known_shape_gives_the_same_events_as_through_the_sdk(raw: bytes) -> None:
    events = parse(raw)
    assert events is not None
    assert events == through_the_sdk(raw)


def test_the_order_is_audio_then_the_users_words_then_the_models() -> None:
    assert parse(HOT[5]) == [AudioDelta(PCM), InputTranscript("you"), OutputTranscript(" hi")]


@pytest.mark.parametrize(
    "raw",
    [
        message(modelTurn=TURN, turnComplete=True),
        message(modelTurn=TURN, somethingNew={}),
        message(modelTurn=TURN | {"somethingNew": 1}),
        message(inputTranscription={"text": "hi", "finished": True}),
        message(inputTranscription={"text": "hi", "languageCode": "en"}),
        message(inputTranscription={}),
        message(interrupted=True),
        message(modelTurn={"parts": [{"text": "hi"}]}),
        message(modelTurn={"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=16000", "data": DATA}}]}),
        message(modelTurn={"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": "__--"}}]}),
        message(modelTurn={"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": "not base64"}}]}),
        message(modelTurn={"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": 7}}]}),
        b'{"serverContent": {"inputTranscription": {"text": "a"}}, "usageMetadata": {}}',
        b'{"setupComplete": {}}',
        b'{"goAway": {"timeLeft": "10s"}}',
        b"{}",
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"serverContent": {"inputTranscription": {"text": "\xff"}}}',
    ],
)
def test_every_other_message_is_left_to_the_sdk(raw: bytes) -> None:
    assert parse(raw) is None


@pytest.mark.parametrize("size", [0, 2, 1280, 16_000])
def test_the_audio_message_says_the_same_as_the_sdks_own(size: int) -> None:
    pcm = (PCM * 8)[:size]
    audio = json.loads(encode_audio(pcm))["realtime_input"]["audio"]
    assert audio["mime_type"] == "audio/pcm;rate=16000"
    assert base64.b64decode(audio["data"], validate=True) == pcm
