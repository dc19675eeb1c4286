"""Servers that are told to stop, told again, and started anew."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fault_runs.clients import Client, Refused, call
from fault_runs.gemini import BRISK, emulator
from fault_runs.processes import ServerProcess, until

from tornado_live.emulator import EmulatorThread

pytestmark = pytest.mark.slow

LONG_ANSWER = {"pace": {"speed": 1}, "script": {"replies": [{"text": " ".join(["word"] * 60)}]}}

Play = Callable[[EmulatorThread, ServerProcess], Awaitable[None]]


def with_server(play: Play, folder: Path, scenario: dict[str, Any] = BRISK) -> None:
    async def run() -> None:
        async with ServerProcess(folder, gemini.url, gemini.ca_file) as server:
            await play(gemini, server)

    gemini = emulator(scenario)
    gemini.start()
    try:
        asyncio.run(run())
    finally:
        gemini.stop()


def set_ups(gemini: EmulatorThread) -> list[dict[str, Any]]:
    return gemini.journal.select("set_up")


def test_a_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    async def play(gemini: EmulatorThread, server: ServerProcess) -> None:
        client = Client(server.port, "impatient")
        await client.start()
        await client.text("tell me")
        await client.message("transcription_result")
        server.terminate()
        await client.message("server_going_away")
        status, body = await call(server.port, "//readyz")
        assert (status, body["missing"]) == (503, ["the server is shutting down"])
        refused = Client(server.port, "late")
        with pytest.raises(Refused, match="server_shutting_down"):
            await refused.start()
        began = time.monotonic()
        server.terminate()
        assert await server.wait() != 0
        assert time.monotonic() - began < 2.0
        for each in (client, refused):
            await each.drop()

    with_server(play, tmp_path, LONG_ANSWER)


def test_after_a_kill_a_client_goes_on_by_its_session_id_and_the_model_remembers(tmp_path: Path) -> None:
    async def play(gemini: EmulatorThread, server: ServerProcess) -> None:
        client = Client(server.port, "remembered")
        started = await client.start()
        await client.text("my name is Ada")
        await client.message("turn_complete")
        await until(lambda: gemini.journal.select("handle")[-1]["history"] == 2, 5.0)
        await asyncio.sleep(0.2)
        server.kill()
        await server.wait()
        await server.start()
        again = Client(server.port, "remembered")
        answer = await again.start()
        assert answer["data"]["startTime"] == started["data"]["startTime"]
        assert answer["data"]["epoch"] == 2
        assert (set_ups(gemini)[-1]["resumed"], set_ups(gemini)[-1]["history"]) == (True, 2)
        for each in (client, again):
            await each.drop()

    with_server(play, tmp_path)


def test_a_handle_that_the_model_does_not_know_any_more_is_made_good_by_the_transcript(
    tmp_path: Path,
) -> None:
    async def play(gemini: EmulatorThread, server: ServerProcess) -> None:
        client = Client(server.port, "told")
        await client.start()
        await client.text("my name is Ada")
        await client.message("turn_complete")
        await asyncio.sleep(0.2)
        server.kill()
        await server.wait()
        await server.start()
        again = Client(server.port, "told")
        await again.start()
        assert set_ups(gemini)[-1]["resumed"] is False
        await again.text("how many turns?")
        final = (await again.exchanges(1))[0]
        assert final["transcript"] == "This is turn 2 of our conversation."
        for each in (client, again):
            await each.drop()

    refused = {"resumption": {"reject": {"code": 1008, "reason": "BidiGenerateContent session not found"}}}
    with_server(play, tmp_path, BRISK | refused)


def test_a_second_server_on_the_same_store_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    async def play(gemini: EmulatorThread, first: ServerProcess) -> None:
        client = Client(first.port, "held")
        await client.start()
        await client.text("one")
        await client.message("turn_complete")
        first.hang_up()
        folder = tmp_path / "second"
        folder.mkdir()
        second = ServerProcess(folder, gemini.url, gemini.ca_file, store={"path": str(first.store)})
        with pytest.raises(AssertionError, match="another server that is running uses "):
            await second.start()
        assert await second.wait() == 1
        assert "Traceback" not in second.log
        await client.text("two")
        await client.exchanges(2)
        with contextlib.closing(sqlite3.connect(first.store)) as reader:
            reader.execute("VACUUM INTO ?", (str(tmp_path / "backup.sqlite3"),))
        first.kill()
        await first.wait()
        await client.drop()
        async with second:
            _, transcript = await call(second.port, "/session/held/transcript")
            said = [turn["text"] for turn in transcript["data"]["turns"] if turn["role"] == "user"]
            assert said == ["one", "two"]

    with_server(play, tmp_path)


def test_after_a_kill_rest_goes_on_with_the_same_conversation(tmp_path: Path) -> None:
    async def play(gemini: EmulatorThread, server: ServerProcess) -> None:
        client = Client(server.port, "by_rest")
        await client.start()
        await client.text("one")
        await client.message("turn_complete")
        server.kill()
        await server.wait()
        await client.drop()
        await server.start()
        _, status = await call(server.port, "/session/by_rest/status")
        assert status["data"]["status"] == "detached"
        audio = {"session_id": "by_rest", "audio_data": "AAAA", "format": "pcm", "sample_rate": 16000}
        answering = asyncio.create_task(call(server.port, "/transcribe", audio))
        await until(lambda: len(set_ups(gemini)) == 2, 10.0)
        again = Client(server.port, "by_rest")
        assert (await again.start())["data"]["epoch"] == 2
        await again.text("two")
        assert (await answering)[0] == 200
        _, transcript = await call(server.port, "/session/by_rest/transcript")
        said = [turn["text"] for turn in transcript["data"]["turns"] if turn["role"] == "user"]
        assert said == ["one", "two"]
        await again.drop()

    with_server(play, tmp_path)
