"""Every knob of a scenario does what it says, and the scenarios that come with the emulator are good ones."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import websockets
from raw_client import LIVE, Message, RawClient, StartEmulator, audio, order, texts
from support import until

from tornado_live.emulator import Emulator, EmulatorOptions, numbered
from tornado_live.emulator import scenarios as scenarios_module
from tornado_live.emulator.scenarios import Scenario, ScenarioError, builtin_scenarios, load_scenario
from tornado_live.settings import read_yaml

NATIVE_2_5 = "gemini-2.5-flash-native-audio-preview-12-2025"


@asynccontextmanager
async def answered(emulator: Emulator, text: str = "one two three four") -> AsyncIterator[list[Message]]:
    """The messages of one answered turn."""
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.say(text)
    yield await client.turn()
    await client.close()


# Before the conversation.


@pytest.mark.gen_test
async def test_an_upgrade_can_be_refused(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(upgrade={"http_status": 429})
    with pytest.raises(websockets.InvalidStatus) as refused:
        await RawClient.dial(emulator)
    assert refused.value.response.status_code == 429
    assert b"RESOURCE_EXHAUSTED" in (refused.value.response.body or b"")


@pytest.mark.gen_test
async def test_connections_can_be_limited(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(upgrade={"max_connections": 1})
    first = await RawClient.open(emulator)
    with pytest.raises(websockets.InvalidStatus):
        await RawClient.dial(emulator)
    await first.close()
    await until(lambda: not emulator.connections)
    await (await RawClient.dial(emulator)).close()


@pytest.mark.gen_test
async def test_an_untrusted_certificate_fails_tls(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(upgrade={"untrusted_certificate": True})
    with pytest.raises(ssl.SSLCertVerificationError):
        await RawClient.dial(emulator)


@pytest.mark.gen_test
async def test_tcp_can_be_refused_for_a_while(emulator: Emulator) -> None:
    emulator.refuse_for(0.2)
    with pytest.raises(OSError):
        await RawClient.dial(emulator)
    await until(lambda: emulator.journal.select("listening_again"))
    await (await RawClient.open(emulator)).close()


@pytest.mark.gen_test
@pytest.mark.parametrize("on", ["fresh", "resumed"])
async def test_set_up_can_be_refused_for_fresh_or_resumed_connections(
    start_emulator: StartEmulator, on: str
) -> None:
    emulator = await start_emulator(
        setup={"on": on, "close": {"code": 1011, "reason": "no"}}, resumption={"interval_s": 0}
    )
    fresh = await RawClient.dial(emulator)
    await fresh.send({"setup": {"model": "models/gemini-3.8-live", "sessionResumption": {}}})
    if on == "fresh":
        assert await fresh.closed() == (1011, "no")
        return
    handle = (await fresh.until("sessionResumptionUpdate"))["sessionResumptionUpdate"]["newHandle"]
    resumed = await RawClient.dial(emulator)
    await resumed.send(
        {"setup": {"model": "models/gemini-3.8-live", "sessionResumption": {"handle": handle}}}
    )
    assert await resumed.closed() == (1011, "no")
    await fresh.close()


@pytest.mark.gen_test
async def test_setup_complete_can_come_late_after_something_else_or_never(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(setup={"delay_ms": 300, "wrong_first": True, "never": True})
    client = await RawClient.dial(emulator)
    started = asyncio.get_running_loop().time()
    await client.send({"setup": {"model": "models/gemini-3.8-live"}})
    assert "goAway" in await client.next()
    assert asyncio.get_running_loop().time() - started >= 0.3
    await client.say("anybody there?")
    with pytest.raises(TimeoutError):
        await client.next(timeout_s=0.3)
    await client.close()


# What is said.


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ({"empty_turn": True}, ["turnComplete", "interactionStatus", "usageMetadata"]),
        ({"no_usage": True}, ["generationComplete", "turnComplete", "interactionStatus"]),
        ({"late_audio": True}, ["generationComplete", "modelTurn", "turnComplete", "interactionStatus"]),
        (
            {"turn_complete_reason": "RESPONSE_REJECTED"},
            ["turnComplete", "interactionStatus", "turnCompleteReason", "usageMetadata"],
        ),
        ({"phantom_interrupt": True}, ["interrupted", "turnComplete", "interactionStatus", "usageMetadata"]),
        (
            {"premature_turn_complete": True},
            ["modelTurn", "turnComplete", "interactionStatus", "usageMetadata"],
        ),
    ],
)
async def test_turns_can_end_in_the_wrong_way(
    start_emulator: StartEmulator, stream: dict[str, Any], expected: list[str]
) -> None:
    emulator = await start_emulator(stream=stream)
    async with answered(emulator) as turn:
        assert [kind for kind in order(turn) if kind in expected][-len(expected) :] == expected
        if "generationComplete" not in expected:
            assert "generationComplete" not in order(turn)


@pytest.mark.gen_test
async def test_turn_complete_can_stay_away(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"no_turn_complete": True})
    client = await RawClient.open(emulator)
    await client.say("hello")
    await client.until("generationComplete")
    with pytest.raises(TimeoutError):
        await client.next(timeout_s=0.3)
    await client.close()


@pytest.mark.gen_test
async def test_audio_can_be_silent_lost_doubled_tiny_and_odd(start_emulator: StartEmulator) -> None:
    async with answered(await start_emulator()) as turn:
        whole = audio(turn)
    async with answered(await start_emulator(stream={"silent_audio": True})) as turn:
        assert audio(turn) == bytes(len(whole))
    async with answered(await start_emulator(stream={"drop_nth": 2})) as turn:
        assert len(audio(turn)) < len(whole) * 0.6
    async with answered(await start_emulator(stream={"duplicate_nth": 1})) as turn:
        assert len(audio(turn)) == 2 * len(whole)
    async with answered(await start_emulator(stream={"tiny_chunks": True, "odd_bytes": True})) as turn:
        assert audio(turn) == whole
        pieces = [audio([message]) for message in turn if audio([message])]
        assert len(pieces[0]) == 97


@pytest.mark.gen_test
async def test_an_answer_can_stall_and_audio_can_come_in_bursts(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"stall": {"at_ms": 200, "for_ms": 700}})
    client = await RawClient.open(emulator)
    await client.say("one two three four")
    loop = asyncio.get_running_loop()
    times = [loop.time()]
    while "generationComplete" not in client.received[-1].get("serverContent", {}):
        await client.next()
        times.append(loop.time())
    assert max(later - earlier for earlier, later in pairwise(times)) >= 0.6
    await client.close()
    emulator = await start_emulator(pace={"speed": 2.0, "burst_ms": 500})
    async with answered(emulator) as turn:
        assert len(audio(turn)) > 48_000
    sent = [entry["ns"] for entry in emulator.journal if "modelTurn" in entry["what"]]
    assert sum(later - earlier > 0.1e9 for earlier, later in pairwise(sent)) <= 3


@pytest.mark.gen_test
async def test_transcripts_can_be_doubled_late_or_in_another_language(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(
        stream={
            "duplicate_input_transcript": True,
            "wrong_language_transcript": True,
            "reorder_transcripts": True,
        }
    )
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.tone(1.0) + bytes(32_000))
    turn = await client.turn()
    heard = texts(turn, "inputTranscription")
    assert not heard.isascii()
    assert heard[: len(heard) // 2] * 2 == heard
    assert order(turn)[1:4] == ["modelTurn", "outputTranscription", "generationComplete"]
    await client.close()


@pytest.mark.gen_test
async def test_messages_can_be_late_but_never_overtake_each_other(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"delay_ms": 50, "jitter_ms": 100})
    client = await RawClient.open(emulator)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await client.say("what is one plus one")
    assert texts(await client.turn(), "outputTranscription") == "one plus one is 2."
    assert loop.time() - started > 0.1
    await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("stream", "frame"),
    [
        ({"malformed": "json"}, b'{"serverContent": {'),
        ({"malformed": "utf8"}, b'{"text": "\xff\xfe"}'),
        ({"malformed": "empty"}, b""),
        ({"malformed": "object"}, b"{}"),
        ({"unknown_top_level": True}, b"somethingNew"),
        ({"unknown_field": True}, b"mood"),
        ({"unknown_enum": True}, b"PONDERING"),
        ({"error_object": True}, b'"error"'),
        ({"wrong_type": True}, b'"maybe"'),
        ({"huge_frame_bytes": 2 * 2**20}, b"A" * 2 * 2**20),
    ],
)
async def test_nonsense_can_come_before_the_answer(
    start_emulator: StartEmulator, stream: dict[str, Any], frame: bytes
) -> None:
    emulator = await start_emulator(stream=stream)
    client = await RawClient.open(emulator)
    await client.say("hello")
    async with asyncio.timeout(5):
        first = await client.socket.recv()
    assert isinstance(first, bytes)
    assert first == frame if "malformed" in stream else frame in first
    await client.close()


@pytest.mark.gen_test
async def test_frames_can_be_text(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"text_frames": True})
    client = await RawClient.dial(emulator)
    await client.send({"setup": {"model": "models/gemini-3.8-live"}})
    async with asyncio.timeout(5):
        assert isinstance(await client.socket.recv(), str)
    await client.close()


@pytest.mark.gen_test
async def test_usage_can_be_separate_and_count_thoughts(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"separate_usage": True, "thoughts_tokens": 9})
    client = await RawClient.open(emulator)
    await client.say("hello")
    assert "usageMetadata" not in (await client.turn())[-1]
    assert (await client.next())["usageMetadata"]["thoughtsTokenCount"] == 9
    await client.close()


@pytest.mark.gen_test
async def test_after_an_interruption_the_model_can_fall_silent(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"mute_after_interrupt": True}, pace={"speed": 1.0})
    client = await RawClient.open(emulator)
    await client.say("a long story about nothing at all")
    await client.until("modelTurn")
    await client.say("stop")
    await client.turn()
    assert order(await client.turn()) == ["turnComplete", "interactionStatus", "usageMetadata"]
    await client.close()


@pytest.mark.gen_test
async def test_a_polite_model_goes_on_for_a_moment_and_tells_where_it_hears_speech(
    start_emulator: StartEmulator,
) -> None:
    emulator = await start_emulator(
        model={"polite_interrupt_ms": 300, "voice_activity": True}, pace={"speed": 1.0}
    )
    client = await RawClient.open(emulator)
    await client.say("a long story about nothing at all")
    await client.until("modelTurn")
    await client.send_audio(numbered.tone(0.5))
    started = await client.until("voiceActivity")
    assert started["voiceActivity"]["type"] == "ACTIVITY_START"
    assert order(await client.turn())[0] == "modelTurn"
    await client.close()


@pytest.mark.gen_test
async def test_an_interruption_can_be_told_when_nothing_is_said(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(stream={"idle_interrupt": True})
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.speak(1, 1) + bytes(32_000))
    assert order(await client.turn())[:3] == ["interrupted", "inputTranscription", "modelTurn"]
    await client.close()


@pytest.mark.gen_test
async def test_fillers_come_before_the_answer(start_emulator: StartEmulator) -> None:
    replies = [{"when": "why", "fillers": ["Let me see."], "text": "Because."}]
    emulator = await start_emulator(script={"replies": replies})
    client = await RawClient.open(emulator)
    await client.say("Why?")
    filler, final = await client.turn(), await client.turn()
    assert filler[-1]["serverContent"]["interactionStatus"] == "IN_PROGRESS"
    assert texts(filler, "outputTranscription") == "Let me see."
    assert texts(final, "outputTranscription") == "Because."
    await client.close()


# The connection.


@pytest.mark.gen_test
@pytest.mark.parametrize("moment", [{"after_ms": 100}, {"client_message": 2}, {"server_message": 2}])
async def test_a_connection_can_be_closed_at_a_moment(
    start_emulator: StartEmulator, moment: dict[str, int]
) -> None:
    emulator = await start_emulator(connection={"close_at": {**moment, "code": 1011, "reason": "over"}})
    client = await RawClient.open(emulator)
    await client.say("hello")
    assert await client.closed() == (1011, "over")


@pytest.mark.gen_test
async def test_a_connection_can_be_cut_without_a_close_frame(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(connection={"abort_at": {"client_message": 2}})
    client = await RawClient.open(emulator)
    await client.say("hello")
    assert await client.closed() == (1006, "")


@pytest.mark.gen_test
async def test_a_half_open_connection_says_nothing_and_answers_no_ping(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(connection={"half_open_at": {"client_message": 2}})
    client = await RawClient.open(emulator)
    await client.say("hello")
    await client.say("hello?")
    pong = await client.socket.ping()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(pong), 0.3)
    assert "modelTurn" not in order(client.received)
    client.socket.transport.abort()
    await client.closed()


@pytest.mark.gen_test
async def test_pings_can_be_ignored_while_all_else_works(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(connection={"ignore_pings": True})
    client = await RawClient.open(emulator)
    pong = await client.socket.ping()
    await client.say("hello")
    await client.turn()
    assert not pong.done()
    await client.close()


@pytest.mark.gen_test
async def test_the_server_can_read_slowly(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(connection={"read_bytes_per_s": 20_000})
    client = await RawClient.open(emulator)
    started = asyncio.get_running_loop().time()
    await client.say("x" * 10_000)
    await client.until("modelTurn")
    assert asyncio.get_running_loop().time() - started >= 0.5
    await client.close()


@pytest.mark.gen_test
async def test_handles_can_be_refused_or_never_come(start_emulator: StartEmulator) -> None:
    refusing = await start_emulator(resumption={"reject": {"code": 1007, "reason": "stale"}})
    first = await RawClient.open(refusing, sessionResumption={})
    handle = (await first.until("sessionResumptionUpdate"))["sessionResumptionUpdate"]["newHandle"]
    second = await RawClient.dial(refusing)
    await second.send({"setup": {"model": "models/gemini-3.8-live", "sessionResumption": {"handle": handle}}})
    assert await second.closed() == (1007, "stale")
    await first.close()
    without = await start_emulator(resumption={"never": True})
    client = await RawClient.open(without, sessionResumption={})
    await client.say("hello")
    assert not any("sessionResumptionUpdate" in message for message in await client.turn())
    await client.close()


@pytest.mark.gen_test
async def test_a_threat_to_go_can_be_empty(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(model={"lifetime_s": 0.2, "go_away_s": 0.1, "go_away_then_ignore": True})
    client = await RawClient.open(emulator)
    await client.until("goAway")
    await client.say("hello")
    await client.turn()
    await client.close()


# Scenarios.


@pytest.mark.gen_test
async def test_a_scenario_can_be_chosen_by_path_and_for_some_connections(
    start_emulator: StartEmulator,
) -> None:
    second_only = {"connections": [2], "upgrade": {"http_status": 503}}
    emulator = await start_emulator({"scenarios": {"second": second_only}})
    await (await RawClient.dial(emulator, "/scn/second")).close()
    with pytest.raises(websockets.InvalidStatus):
        await RawClient.dial(emulator, "/scn/second")
    await (await RawClient.dial(emulator, "/scn/second")).close()
    await (await RawClient.dial(emulator)).close()


@pytest.mark.gen_test
async def test_a_scenario_can_be_chosen_by_header(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator({"scenarios": {"full": {"upgrade": {"http_status": 503}}}})
    with pytest.raises(websockets.InvalidStatus):
        await RawClient.dial(emulator, additional_headers={"x-emu-scenario": "full"})


@pytest.mark.gen_test
async def test_an_unknown_scenario_is_not_found(emulator: Emulator) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await RawClient.dial(emulator, "/scn/none")
    assert refused.value.response.status_code == 404


def test_wrong_scenarios_are_refused_naming_every_key() -> None:
    with pytest.raises(ScenarioError, match=r"pace\.speed.*stream\.colour"):
        load_scenario({"stream": {"colour": "red"}, "pace": {"speed": -1}})


def test_every_scenario_that_comes_with_the_emulator_loads_and_describes_itself() -> None:
    scenarios = {name: load_scenario(one) for name, one in builtin_scenarios(read_yaml).items()}
    assert len(scenarios) > 40
    assert all(scenario.description for scenario in scenarios.values())
    assert EmulatorOptions(scenarios=builtin_scenarios(read_yaml)).scenarios


def test_every_knob_is_in_a_scenario_that_comes_with_the_emulator() -> None:
    used = json.dumps(list(builtin_scenarios(read_yaml).values()))
    for section in Scenario.model_fields.values():
        for knob in getattr(section.annotation, "model_fields", {}):
            if knob not in ("session_limits", "unknown_handle", "chunk_ms", "utterances"):
                assert f'"{knob}"' in used, knob


def test_the_scenarios_are_installed_beside_their_module() -> None:
    folder = Path(scenarios_module.__file__).parent / "scenarios"
    assert (folder / "rotation.yaml").exists()


@pytest.mark.gen_test
async def test_the_address_may_have_two_slashes_and_any_version(emulator: Emulator) -> None:
    for path in ("/" + LIVE, LIVE.replace("v1beta", "v1"), LIVE.replace("v1beta", "v1alpha") + "Constrained"):
        url = emulator.url.replace("https", "wss") + path + "?key=x"
        context = ssl.create_default_context(cafile=emulator.ca_file)
        async with websockets.connect(url, ssl=context, proxy=None):
            pass


def test_every_knob_and_option_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    for name, section in Scenario.model_fields.items():
        assert f"`{name}`" in text, name
        for knob in getattr(section.annotation, "model_fields", {}):
            assert re.search(rf"`{knob}\b", text), f"{name}.{knob}"
    for option in dataclasses.fields(EmulatorOptions):
        assert f"`{option.name}`" in text, option.name
