"""Lifetimes, handles, limits and tools."""

from __future__ import annotations

from typing import Any

import pytest
from raw_client import Message, RawClient, StartEmulator, order, texts

from tornado_live.emulator import Emulator, numbered
from tornado_live.emulator.resumption import HandleUnknown, SessionStore

NATIVE_2_5 = "gemini-2.5-flash-native-audio-preview-12-2025"
THINKING = "gemini-3.8-live-extended-thinking"
WEATHER = [{"functionDeclarations": [{"name": "get_weather", "parameters": {"type": "OBJECT"}}]}]


async def next_handle(client: RawClient) -> str:
    while True:
        update = (await client.until("sessionResumptionUpdate"))["sessionResumptionUpdate"]
        if update.get("resumable"):
            return str(update["newHandle"])


async def call(client: RawClient) -> Message:
    [asked] = (await client.until("toolCall"))["toolCall"]["functionCalls"]
    return dict(asked)


async def answer(client: RawClient, asked: Message, **more: Any) -> None:
    response = {"id": asked["id"], "name": asked["name"], "response": {"degrees": 21}, **more}
    await client.send({"toolResponse": {"functionResponses": [response]}})


@pytest.mark.gen_test
async def test_a_resumed_connection_remembers_what_was_said(emulator: Emulator) -> None:
    first = await RawClient.open(emulator, sessionResumption={})
    await first.say("my name is Ada")
    await first.turn()
    handle = await next_handle(first)
    await first.close()
    second = await RawClient.open(emulator, sessionResumption={"handle": handle})
    await second.say("what did I say")
    assert texts(await second.turn(), "outputTranscription") == "You said before: my name is Ada"
    await second.close()


@pytest.mark.gen_test
async def test_a_handle_restores_the_moment_it_was_issued_at(emulator: Emulator) -> None:
    first = await RawClient.open(emulator, sessionResumption={})
    early = await next_handle(first)
    await first.say("something")
    await first.turn()
    await first.close()
    second = await RawClient.open(emulator, sessionResumption={"handle": early})
    await second.say("what did I say")
    assert texts(await second.turn(), "outputTranscription") == "You have not said anything before."
    await second.close()


@pytest.mark.gen_test
async def test_a_moment_within_an_answer_cannot_be_resumed(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, sessionResumption={})
    await next_handle(client)
    await client.say("hello")
    await client.turn()
    await next_handle(client)
    updates = [m["sessionResumptionUpdate"] for m in client.received if "sessionResumptionUpdate" in m]
    assert {} in updates
    assert updates[-1]["resumable"] is True
    await client.close()


def test_a_handle_is_forgotten_two_hours_after_its_connection() -> None:
    now = 0.0
    store = SessionStore(7200, clock=lambda: now)
    session = store.new_session("m", 1)
    handle = store.save(session)
    now = 10_000
    store.release(session)
    now = 17_199
    assert store.resume(handle, "m", 2).age_s == 10_000
    now = 17_201
    with pytest.raises(HandleUnknown):
        store.resume(handle, "m", 3)


def test_a_handle_belongs_to_its_model() -> None:
    store = SessionStore()
    handle = store.save(store.new_session("m", 1))
    with pytest.raises(HandleUnknown):
        store.resume(handle, "other", 2)


def test_of_a_long_session_only_the_newest_handles_are_kept() -> None:
    store = SessionStore()
    session = store.new_session("m", 1)
    handles = [store.save(session) for _ in range(200)]
    assert store.resume(handles[-1], "m", 2).model == "m"
    with pytest.raises(HandleUnknown):
        store.resume(handles[0], "m", 2)


@pytest.mark.gen_test
async def test_a_session_can_be_guarded_until_its_old_connection_is_closed(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(resumption={"while_open": "refuse"})
    first = await RawClient.open(emulator, sessionResumption={})
    handle = await next_handle(first)
    second = await RawClient.dial(emulator)
    await second.send({"setup": {"model": "models/gemini-3.8-live", "sessionResumption": {"handle": handle}}})
    assert (await second.closed())[0] == 1011
    await first.close()
    third = await RawClient.open(emulator, sessionResumption={"handle": handle})
    await third.close()


@pytest.mark.gen_test
async def test_a_connection_is_told_to_go_and_then_closed(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator({"time_scale": 600.0})
    client = await RawClient.open(emulator, model=NATIVE_2_5, contextWindowCompression={"slidingWindow": {}})
    assert (await client.until("goAway"))["goAway"] == {"timeLeft": "0.1s"}
    assert await client.closed() == (1008, "The operation was aborted.")


@pytest.mark.gen_test
async def test_the_newest_models_close_at_58_minutes_without_a_word(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator({"time_scale": 3480.0 * 4})
    client = await RawClient.open(emulator, contextWindowCompression={"slidingWindow": {}})
    assert await client.closed() == (1011, "Deadline expired before operation could complete.")
    assert "goAway" not in order(client.received)


@pytest.mark.gen_test
async def test_a_session_without_compression_ends_after_fifteen_minutes(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator({"time_scale": 900.0 * 4})
    client = await RawClient.open(emulator)
    assert await client.closed() == (1000, "")


@pytest.mark.gen_test
async def test_a_full_context_ends_the_session_or_is_compressed(emulator: Emulator) -> None:
    long_text = "word " * 120_000
    client = await RawClient.open(emulator)
    await client.say(long_text)
    assert (await client.closed())[0] == 1007
    compressed = await RawClient.open(
        emulator, contextWindowCompression={"slidingWindow": {"targetTokens": 9000}}
    )
    await compressed.say(long_text)
    usage = (await compressed.turn())[-1]["usageMetadata"]
    assert usage["promptTokenCount"] == pytest.approx(9000, abs=5)
    await compressed.close()


@pytest.mark.gen_test
async def test_a_blocking_function_is_waited_for(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, model="gemini-3.1-flash-live-preview", tools=WEATHER,
                                  outputAudioTranscription={})  # fmt: skip
    await client.say('please call get_weather with {"city": "Paris"}')
    asked = await call(client)
    assert asked["args"] == {"city": "Paris"}
    await answer(client, asked)
    assert texts(await client.turn(), "outputTranscription") == 'get_weather says {"degrees": 21}.'
    await client.close()


@pytest.mark.gen_test
async def test_a_non_blocking_function_is_answered_in_a_turn_of_its_own(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, tools=WEATHER)
    await client.say("use get weather")
    asked = await call(client)
    assert texts(await client.turn(), "outputTranscription") == "One moment."
    await answer(client, asked, scheduling="WHEN_IDLE")
    assert "degrees" in texts(await client.turn(), "outputTranscription")
    await client.close()


@pytest.mark.gen_test
async def test_a_silent_response_is_only_remembered(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, tools=WEATHER)
    await client.say("use get_weather")
    asked = await call(client)
    await client.turn()
    await answer(client, asked, scheduling="SILENT")
    await client.say("what did I say")
    assert "degrees" in texts(await client.turn(), "outputTranscription")
    await client.close()


@pytest.mark.gen_test
async def test_extended_thinking_is_idle_only_after_the_last_turn(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, model=THINKING, tools=WEATHER)
    await client.say("use get_weather")
    asked = await call(client)
    filler = await client.turn()
    assert filler[-1]["serverContent"]["interactionStatus"] == "IN_PROGRESS"
    await answer(client, asked)
    assert (await client.turn())[-1]["serverContent"]["interactionStatus"] == "IDLE"
    await client.close()


@pytest.mark.gen_test
async def test_extended_thinking_takes_no_scheduling(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, model=THINKING, tools=WEATHER)
    await client.say("use get_weather")
    await answer(client, await call(client), scheduling="INTERRUPT")
    assert await client.closed() == (1007, "Function response scheduling is not supported for this model")


@pytest.mark.gen_test
async def test_older_models_take_no_input_during_a_function_call(emulator: Emulator) -> None:
    client = await RawClient.open(emulator, model=NATIVE_2_5, tools=WEATHER)
    await client.say("use get_weather")
    await call(client)
    await client.send_audio(bytes(3200))
    assert await client.closed() == (1008, "Operation is not implemented, or supported, or enabled.")


@pytest.mark.gen_test
async def test_speech_cancels_the_functions_that_are_waited_for(emulator: Emulator) -> None:
    tools = [{"functionDeclarations": [{"name": "get_weather", "behavior": "BLOCKING"}]}]
    client = await RawClient.open(emulator, tools=tools)
    await client.say("use get_weather")
    asked = await call(client)
    await client.send_audio(numbered.tone(0.5))
    cancelled = (await client.until("toolCallCancellation"))["toolCallCancellation"]["ids"]
    assert cancelled == [asked["id"]]
    assert order(await client.turn())[0] == "interrupted"
    await answer(client, asked)
    await client.send_audio(bytes(32_000))
    await client.turn()
    await client.close()


@pytest.mark.gen_test
async def test_tools_may_be_declared_later(emulator: Emulator) -> None:
    client = await RawClient.open(emulator)
    await client.send({"contextUpdate": {"tools": {"tools": WEATHER}}})
    await client.say("use get_weather")
    await call(client)
    await client.close()
