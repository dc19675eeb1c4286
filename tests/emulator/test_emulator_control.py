"""The control API, the journal, and starting and stopping."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from raw_client import RawClient, StartEmulator
from support import until
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from tornado_live.emulator import Emulator, EmulatorOptions, EmulatorThread, numbered


async def control(emulator: Emulator, method: str, path: str, body: Any = None) -> HTTPResponse:
    return await AsyncHTTPClient().fetch(
        HTTPRequest(
            f"{emulator.url}/__emu/{path}",
            method,
            body=None if body is None else json.dumps(body),
            ca_certs=emulator.ca_file,
        ),
        raise_error=False,
    )


@pytest.mark.gen_test
async def test_connections_are_listed_and_can_be_spoken_through(emulator: Emulator) -> None:
    client = await RawClient.open(emulator)
    listed = json.loads((await control(emulator, "GET", "connections")).body)["connections"]
    assert [(one["connection"], one["model"], one["idle"]) for one in listed] == [
        (1, "models/gemini-3.8-live", True)
    ]
    await control(emulator, "POST", "connections/1/send", {"goAway": {"timeLeft": "5s"}})
    assert (await client.until("goAway"))["goAway"] == {"timeLeft": "5s"}
    await control(emulator, "POST", "connections/1/close", {"code": 1008, "reason": "enough"})
    assert await client.closed() == (1008, "enough")


@pytest.mark.gen_test
async def test_connections_can_be_cut(emulator: Emulator) -> None:
    client = await RawClient.open(emulator)
    await control(emulator, "POST", "connections/1/abort", {})
    assert (await client.closed())[0] == 1006


@pytest.mark.gen_test
async def test_scenarios_can_be_changed_between_connections(emulator: Emulator) -> None:
    changed = await control(
        emulator, "PUT", "scenario", {"setup": {"close": {"code": 1011, "reason": "new"}}}
    )
    assert changed.code == 200
    client = await RawClient.dial(emulator)
    await client.send({"setup": {"model": "models/gemini-3.8-live"}})
    assert await client.closed() == (1011, "new")
    await control(emulator, "PUT", "scenarios/healthy", {})
    await (await RawClient.open(emulator, "/scn/healthy")).close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("POST", "connections/9/abort", {}, 404),
        ("POST", "connections/x/abort", {}, 404),
        ("PUT", "scenario", {"colour": 1}, 400),
        ("PUT", "scenario", [], 400),
        ("POST", "refuse", {"for_s": "long"}, 400),
    ],
)
async def test_wrong_requests_are_told_so(
    emulator: Emulator, method: str, path: str, body: Any, status: int
) -> None:
    response = await control(emulator, method, path, body)
    assert response.code == status
    assert isinstance(json.loads(response.body)["error"], str)


@pytest.mark.gen_test
async def test_the_journal_tells_what_was_heard_at_which_sample(
    start_emulator: StartEmulator, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    emulator = await start_emulator({"journal_path": str(path)})
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.speak(5, 2) + bytes(32_000))
    await client.turn()
    await client.close()
    [heard] = emulator.journal.select("recognised", connection=1)
    assert (heard["ears"], heard["text"]) == ("scripted", "n00005 n00006")
    assert heard["offset"] + heard["samples"] == pytest.approx(32_000, abs=5_000)
    listed = json.loads((await control(emulator, "GET", "journal?what=recognised")).body)["entries"]
    assert listed == [json.loads(json.dumps(heard))]
    gap = 2_560
    assert [(word, round((at - gap) / 16_000, 2)) for word, at in heard["words"]] == [
        ("n00005", 0),
        ("n00006", 1),
    ]
    frames = emulator.journal.select("realtimeInput.audio")
    assert [frame["offset"] for frame in frames] == [0, 16_000, 32_000]
    await emulator.stop()
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert listed[0] in written
    assert {entry["dir"] for entry in written} == {"in", "out", "note"}
    assert all("bytes" in entry for entry in written if entry["dir"] != "note")


@pytest.mark.gen_test
async def test_stopping_leaves_nothing_behind(start_emulator: StartEmulator) -> None:
    threads = set(threading.enumerate())
    tasks = asyncio.all_tasks()
    emulator = await start_emulator({"voice": "espeak"}, pace={"speed": 1.0})
    client = await RawClient.open(emulator)
    await client.say("a long story about nothing at all")
    await client.until("modelTurn")
    await client.send_audio(numbered.tone(1.0))
    await emulator.stop()
    assert (await client.closed())[0] in (1001, 1006)
    await client.close()
    assert not Path(emulator.ca_file).parent.exists()
    assert not set(threading.enumerate()) - threads
    await until(lambda: asyncio.all_tasks() == tasks)
    with pytest.raises(OSError):
        await RawClient.dial(emulator)


@pytest.mark.gen_test
async def test_connections_that_end_anyhow_leave_no_task_behind(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator(pace={"speed": 1.0})
    tasks = asyncio.all_tasks()
    for nth in range(30):
        client = await RawClient.open(emulator, sessionResumption={})
        await client.send_audio(numbered.tone(1.0) + bytes(nth * 1000))
        await client.say("a long story about nothing at all")
        if nth % 3 == 0:
            client.socket.transport.abort()
        elif nth % 3 == 1:
            await client.send({"nonsense": {}})
            await client.closed()
        await client.close()
    await until(lambda: not emulator.connections and asyncio.all_tasks() == tasks)


def test_the_thread_starts_and_stops_and_says_where_it_is() -> None:
    emulator = EmulatorThread(EmulatorOptions(ears="scripted", voice="tone"))
    emulator.start()
    emulator.wait_ready()
    try:
        assert emulator.url.startswith("https://127.0.0.1:")
        assert emulator.engine == "scripted"
        assert ssl.create_default_context(cafile=emulator.ca_file)
    finally:
        emulator.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "emulator"]


@pytest.mark.gen_test
async def test_a_taken_port_is_an_error_of_the_caller(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])
    thread = EmulatorThread(EmulatorOptions(port=port, ears="scripted", voice="tone"))
    with pytest.raises(OSError):
        await asyncio.to_thread(thread.start)


@pytest.mark.gen_test
async def test_without_ears_speech_is_answered_with_how_to_get_them(start_emulator: StartEmulator) -> None:
    emulator = await start_emulator({"ears": "none"})
    assert "no speech recognition" in emulator.engine
    client = await RawClient.open(emulator, inputAudioTranscription={})
    await client.send_audio(numbered.tone(1.0) + bytes(32_000))
    turn = await client.turn()
    said = "".join(m["serverContent"].get("outputTranscription", {}).get("text", "") for m in turn)
    assert "pip install 'tornado-live[offline]'" in said
    await client.close()
