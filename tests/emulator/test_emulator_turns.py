"""The order of what the emulator says, over a bare WebSocket."""

from __future__ import annotations

import asyncio

import pytest
from raw_client import RawClient, StartEmulator, audio, order, texts

from tornado_live.emulator import Emulator, numbered
from tornado_live.emulator.resample import Resampler

SILENCE = bytes(32_000)
LEGACY = "gemini-live-2.5-flash-preview"
NATIVE_2_5 = "gemini-2.5-flash-native-audio-preview-12-2025"


@pytest.mark.gen_test
async def test_a_written_turn_is_answered_in_the_services_order(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.say("what is two plus three")
    turn = await client.turn()
    assert order(turn) == [
        "modelTurn", "outputTranscription", "modelTurn", "outputTranscription", "modelTurn",
        "outputTranscription", "modelTurn", "outputTranscription", "modelTurn", "outputTranscription",
        "modelTurn", "generationComplete", "turnComplete", "interactionStatus", "usageMetadata",
    ]  # fmt: skip
    assert texts(turn, "outputTranscription") == "two plus three is 5."
    assert turn[-1]["serverContent"] == {"turnComplete": True, "interactionStatus": "IDLE"}
    await client.close()


@pytest.mark.gen_test
async def test_speech_is_transcribed_before_it_is_answered(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(script={"utterances": ["what is six times seven"]})
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.tone(1.0) + SILENCE)
    turn = await client.turn()
    assert order(turn)[:2] == ["inputTranscription", "modelTurn"]
    assert texts(turn, "inputTranscription") == "what is six times seven"
    assert texts(turn, "outputTranscription") == "six times seven is 42."
    assert len(audio(turn)) > 24_000
    await client.close()


@pytest.mark.gen_test
async def test_older_models_send_words_one_by_one_and_one_field_a_message(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(script={"utterances": ["one two three"]})
    client = await RawClient.open(
        emulator, model=NATIVE_2_5, inputAudioTranscription={}, outputAudioTranscription={}
    )
    await client.send_audio(numbered.tone(1.0) + SILENCE)
    turn = await client.turn()
    pieces = [
        m["serverContent"]["inputTranscription"]["text"]
        for m in turn
        if "inputTranscription" in m["serverContent"]
    ]
    assert pieces == ["one", " two", " three"]
    assert all(len(message["serverContent"]) == 1 for message in turn)
    assert turn[-1]["serverContent"] == {"turnComplete": True}
    await client.close()


@pytest.mark.gen_test
async def test_text_models_answer_in_writing(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(model={"retired_models": True})
    client = await RawClient.open(emulator, model=LEGACY, generationConfig={"responseModalities": ["TEXT"]})
    await client.say("a b c")
    turn = await client.turn()
    assert order(turn) == ["modelTurn", "generationComplete", "turnComplete", "usageMetadata"]
    assert turn[0]["serverContent"]["modelTurn"]["parts"] == [{"text": "You said: a b c"}]
    await client.close()


@pytest.mark.gen_test
async def test_speech_over_the_answer_interrupts_it_without_generation_complete(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(pace={"speed": 1.0}, script={"utterances": ["a long story", "stop"]})
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.tone(1.0) + SILENCE)
    await client.until("modelTurn")
    await client.send_audio(numbered.tone(0.5))
    turn = await client.turn()
    assert order(turn)[-4:] == ["interrupted", "turnComplete", "interactionStatus", "usageMetadata"]
    assert "generationComplete" not in order(turn)
    await client.close()


@pytest.mark.gen_test
async def test_an_interrupted_answer_is_remembered_as_far_as_it_was_sent(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(pace={"speed": 1.0})
    client = await RawClient.open(emulator, sessionResumption={})
    await client.say("count with me: one two three four five six seven eight nine ten")
    await client.until("outputTranscription")
    await client.say("what did I say")
    spoken = texts(await client.turn(), "outputTranscription")
    assert "ten" not in spoken
    await client.turn(timeout_s=20)
    note = emulator.journal.select("handle")[-1]
    assert note["history"] == 4
    await client.close()


@pytest.mark.gen_test
async def test_without_interruption_turns_are_answered_one_after_the_other(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(script={"utterances": ["first", "second"]})
    config = {"activityHandling": "NO_INTERRUPTION"}
    client = await RawClient.open(emulator, realtimeInputConfig=config, inputAudioTranscription={})
    await client.send_audio((numbered.tone(0.5) + SILENCE) * 2)
    assert texts(await client.turn(), "outputTranscription") == "You said: first"
    assert texts(await client.turn(), "outputTranscription") == "You said: second"
    await client.close()


@pytest.mark.gen_test
async def test_every_utterance_of_a_burst_is_transcribed_though_the_next_interrupts_it(
    emulator: Emulator,
) -> None:
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(b"".join(numbered.speak(at * 3, 3) + SILENCE for at in range(20)))
    heard: list[int] = []
    while len(heard) < 60:
        heard += numbered.numbers(texts(await client.turn(), "inputTranscription"))
    assert heard == list(range(60))
    await client.close()


@pytest.mark.gen_test
async def test_client_content_waits_for_its_turn_to_be_complete(emulator: Emulator) -> None:
    client = await RawClient.open(emulator)
    content = {"turns": [{"role": "user", "parts": [{"text": "the first half"}]}], "turnComplete": False}
    await client.send({"client_content": content})
    await client.say("and the second")
    assert texts(await client.turn(), "outputTranscription") == "You said: the first half and the second"
    await client.close()


@pytest.mark.gen_test
async def test_initial_history_is_taken_in_without_an_answer(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, historyConfig={"initialHistoryInClientContent": True})
    turns = [
        {"role": "user", "parts": [{"text": "my name is Ada"}]},
        {"role": "model", "parts": [{"text": "Hello Ada"}]},
    ]
    await client.send({"clientContent": {"turns": turns, "turnComplete": True}})
    await client.send({"realtimeInput": {"text": "what did I say"}})
    assert texts(await client.turn(), "outputTranscription") == "You said before: my name is Ada"
    await client.close()


@pytest.mark.gen_test
async def test_manual_activity_marks_make_one_utterance_of_what_lies_between(emulator: Emulator) -> None:
    config = {"automaticActivityDetection": {"disabled": True}}
    client = await RawClient.open(emulator, realtimeInputConfig=config, inputAudioTranscription={})
    await client.send_audio(numbered.speak(7, 1) + SILENCE)
    await client.send({"realtimeInput": {"activityStart": {}}})
    await client.send_audio(numbered.speak(10, 2) + SILENCE * 3 + numbered.speak(12, 2))
    await client.send({"realtimeInput": {"activityEnd": {}}})
    turn = await client.turn()
    assert numbered.numbers(texts(turn, "inputTranscription")) == [10, 11, 12, 13]
    await client.close()


@pytest.mark.gen_test
async def test_a_sound_without_words_ends_in_an_empty_turn(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"ignore_short_ms": 2000})
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.tone(0.5) + SILENCE)
    assert order(await client.turn()) == ["turnComplete", "interactionStatus", "usageMetadata"]
    await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(("model", "ends"), [("gemini-3.8-live", False), (NATIVE_2_5, True)])
async def test_audio_stream_end_ends_the_turn_where_the_model_says_so(
    emulator: Emulator, model: str, ends: bool
) -> None:
    client = await RawClient.open(emulator, model=model, inputAudioTranscription={})
    await client.send_audio(numbered.speak(1, 1))
    await client.send({"realtimeInput": {"audioStreamEnd": True}})
    if ends:
        await client.turn()
    else:
        with pytest.raises(TimeoutError):
            await client.turn(timeout_s=0.5)
        await client.close()
        return
    assert numbered.numbers(texts(client.received, "inputTranscription")) == [1]
    await client.close()


@pytest.mark.gen_test
async def test_turn_complete_waits_until_the_speech_would_have_been_played(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(pace={"speed": 20.0})
    client = await RawClient.open(emulator)
    loop = asyncio.get_running_loop()
    await client.say("one two three")
    await client.until("modelTurn")
    started = loop.time()
    await client.until("generationComplete")
    generated_s = loop.time() - started
    await client.until("turnComplete")
    played_s = len(audio(client.received)) / 48_000
    assert generated_s < played_s / 2
    assert loop.time() - started == pytest.approx(played_s, abs=0.25)
    await client.close()


@pytest.mark.gen_test
async def test_usage_grows_by_what_was_said_before(emulator: Emulator) -> None:
    client = await RawClient.open(emulator)
    await client.say("one two three four")
    first = (await client.turn())[-1]["usageMetadata"]
    await client.say("five six seven eight")
    second = (await client.turn())[-1]["usageMetadata"]
    assert second["promptTokenCount"] > first["promptTokenCount"] + first["responseTokenCount"]
    assert first["totalTokenCount"] == first["promptTokenCount"] + first["responseTokenCount"]
    assert {"modality": "AUDIO", "tokenCount": first["responseTokenCount"]} in first["responseTokensDetails"]
    await client.close()


@pytest.mark.gen_test
async def test_audio_at_another_rate_is_heard_alike(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, inputAudioTranscription={})
    resampler = Resampler(16_000, 44_100)
    await client.send_audio(
        resampler.process(numbered.speak(40, 3) + SILENCE), rate_hz=44_100, piece_bytes=9_001
    )
    turn = await client.turn()
    assert numbered.numbers(texts(turn, "inputTranscription")) == [40, 41, 42]
    await client.close()
