"""Google's own Python SDK holds whole conversations with the emulator, by public options only."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from raw_client import MODEL, StartEmulator

from tornado_live.emulator import Emulator, EmulatorThread, numbered


def sdk_client(emulator: Emulator | EmulatorThread, **connection: Any) -> genai.Client:
    arguments = {"ssl": ssl.create_default_context(cafile=emulator.ca_file), "proxy": None, **connection}
    options = types.HttpOptions(base_url=emulator.url, api_version="v1beta", async_client_args=arguments)
    return genai.Client(api_key="x", vertexai=False, http_options=options)


def pcm(data: bytes) -> types.Blob:
    return types.Blob(data=data, mime_type="audio/pcm;rate=16000")


async def turn(session: Any) -> list[types.LiveServerMessage]:
    async with asyncio.timeout(10):
        return [message async for message in session.receive()]


def said(messages: list[types.LiveServerMessage], field: str) -> str:
    contents = [message.server_content for message in messages if message.server_content]
    pieces = [getattr(content, field) for content in contents]
    return "".join(piece.text for piece in pieces if piece and piece.text)


@pytest.mark.gen_test
async def test_a_whole_conversation_by_text_speech_tool_and_resumption(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(script={"utterances": ["what is two plus two"]})
    client = sdk_client(emulator)
    weather = types.FunctionDeclaration(name="get_weather", behavior=types.Behavior.BLOCKING)
    config = types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        input_audio_transcription=types.AudioTranscriptionConfig(),
        output_audio_transcription=types.AudioTranscriptionConfig(),
        session_resumption=types.SessionResumptionConfig(),
        tools=[types.Tool(function_declarations=[weather])],
    )
    async with client.aio.live.connect(model=MODEL, config=config) as session:
        await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="hello")]))
        messages = await turn(session)
        assert said(messages, "output_transcription").startswith("Hello. I am the offline demo engine")
        content = messages[-1].server_content
        assert content is not None
        assert content.turn_complete
        assert content.interaction_status == types.InteractionStatus.IDLE
        usage = messages[-1].usage_metadata
        assert usage is not None
        assert usage.total_token_count == (usage.prompt_token_count or 0) + (usage.response_token_count or 0)

        await session.send_realtime_input(audio=pcm(numbered.tone(1.0) + bytes(32_000)))
        messages = await turn(session)
        assert said(messages, "input_transcription") == "what is two plus two"
        assert said(messages, "output_transcription") == "two plus two is 4."

        await session.send_realtime_input(text="call get_weather")
        messages = []
        async with asyncio.timeout(10):
            async for message in session.receive():
                messages.append(message)
                if message.tool_call and message.tool_call.function_calls:
                    asked = message.tool_call.function_calls[0]
                    await session.send_tool_response(
                        function_responses=types.FunctionResponse(
                            id=asked.id, name=asked.name, response={"output": "sunny"}
                        )
                    )
        assert said(messages, "output_transcription") == 'get_weather says {"output": "sunny"}.'
        handle = None
        while not handle:
            update = (await anext(session.receive())).session_resumption_update
            handle = update.new_handle if update else None

    resumed = types.LiveConnectConfig(session_resumption=types.SessionResumptionConfig(handle=handle))
    async with client.aio.live.connect(model=MODEL, config=resumed) as session:
        await session.send_client_content(
            turns=types.Content(role="user", parts=[types.Part(text="how many turns")])
        )
        assert said(await turn(session), "output_transcription") == "This is turn 4 of our conversation."
    await client.aio.aclose()


@pytest.mark.gen_test
async def test_nearly_every_field_of_a_setup_is_understood(emulator: Emulator) -> None:
    client = sdk_client(emulator)
    config = types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        temperature=0.7, top_p=0.9, top_k=40, max_output_tokens=1000, seed=1,
        media_resolution=types.MediaResolution.MEDIA_RESOLUTION_LOW,
        speech_config=types.SpeechConfig(
            voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore")),
            language_code="en-US",
        ),
        system_instruction="be nice",
        tools=[types.Tool(google_search=types.GoogleSearch())],
        session_resumption=types.SessionResumptionConfig(),
        input_audio_transcription=types.AudioTranscriptionConfig(
            language_codes=["en-US"], custom_vocabulary=["foo"]
        ),
        output_audio_transcription=types.AudioTranscriptionConfig(),
        realtime_input_config=types.RealtimeInputConfig(
            automatic_activity_detection=types.AutomaticActivityDetection(
                start_of_speech_sensitivity=types.StartSensitivity.START_SENSITIVITY_HIGH,
                end_of_speech_sensitivity=types.EndSensitivity.END_SENSITIVITY_LOW,
                prefix_padding_ms=20,
                silence_duration_ms=500,
            ),
            activity_handling=types.ActivityHandling.START_OF_ACTIVITY_INTERRUPTS,
            turn_coverage=types.TurnCoverage.TURN_INCLUDES_ONLY_ACTIVITY,
        ),
        context_window_compression=types.ContextWindowCompressionConfig(
            trigger_tokens=25600, sliding_window=types.SlidingWindow(target_tokens=12800)
        ),
        proactivity=types.ProactivityConfig(proactive_audio=True),
        history_config=types.HistoryConfig(initial_history_in_client_content=True),
    )  # fmt: skip
    async with client.aio.live.connect(model=MODEL, config=config) as session:
        await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="before")]))
        await session.send_realtime_input(video=types.Blob(data=b"\xff\xd8", mime_type="image/jpeg"))
        await session.send_realtime_input(text="what did I say")
        assert said(await turn(session), "output_transcription") == "You said before: before"
    await client.aio.aclose()


@pytest.mark.gen_test
async def test_manual_activity_and_interruption(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(pace={"speed": 1.0}, script={"utterances": ["a long story", "stop"]})
    client = sdk_client(emulator)
    manual = types.AutomaticActivityDetection(disabled=True)
    config = types.LiveConnectConfig(
        realtime_input_config=types.RealtimeInputConfig(automatic_activity_detection=manual)
    )
    async with client.aio.live.connect(model=MODEL, config=config) as session:
        await session.send_realtime_input(activity_start=types.ActivityStart())
        await session.send_realtime_input(audio=pcm(numbered.tone(1.0)))
        await session.send_realtime_input(activity_end=types.ActivityEnd())
        async with asyncio.timeout(10):
            async for message in session.receive():
                if message.server_content and message.server_content.model_turn:
                    break
        await session.send_realtime_input(activity_start=types.ActivityStart())
        messages = await turn(session)
        contents = [message.server_content for message in messages if message.server_content]
        assert any(content.interrupted for content in contents)
        assert not any(content.generation_complete for content in contents)
    await client.aio.aclose()


@pytest.mark.gen_test
async def test_refusals_reach_the_caller_as_api_errors(emulator: Emulator) -> None:
    client = sdk_client(emulator)
    config = types.LiveConnectConfig(response_modalities=[types.Modality.TEXT])
    with pytest.raises(errors.APIError) as refused:
        async with client.aio.live.connect(model=MODEL, config=config):
            pass
    assert refused.value.code == 1007
    await client.aio.aclose()
