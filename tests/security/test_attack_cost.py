"""Somebody else's money: row 14. And what the server tells about itself: row 16."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from callers import JOHN, MARY
from raw import answer_to, request, status_of
from support import Socket

API = "/api/v1/live-audio"


async def dials(server: Any, count_dials: Any) -> int:
    """How often the model was dialled for 50 sessions that one key opens at once."""
    before = count_dials()

    async def start(number: int) -> None:
        socket = await Socket.open(server, X_API_Key=MARY)
        await socket.send({"type": "start_session", "session_id": f"s{number}"})
        await socket.message_of("session_started", "rate_limit_exceeded")
        socket.close()
        await socket.closed()

    await asyncio.gather(*(start(number) for number in range(50)))
    return int(count_dials()) - before


@pytest.mark.gen_test(timeout=40)
async def test_14_fifty_openings_make_three_dials(make_protected: Any, scripted_ears: Any) -> None:
    server = await make_protected(limits={"sessions": 3})
    assert await dials(server, lambda: len(scripted_ears.journal.select("opened"))) == 3
    wire = request("POST", f"{API}/session/start", {"session_id": "s"}, X_API_Key=JOHN)
    assert status_of(await answer_to(server.port, wire)) == 200


@pytest.mark.gen_test
async def test_14_succeeds_unprotected(unprotected: Any) -> None:
    assert await dials(unprotected, lambda: len(unprotected.setups)) == 50


@pytest.mark.gen_test(timeout=30)
async def test_14_new_sessions_are_limited_by_the_minute(make_protected: Any, scripted_ears: Any) -> None:
    server = await make_protected(limits={"new_sessions_per_minute": 10})
    assert await dials(server, lambda: len(scripted_ears.journal.select("opened"))) == 10


async def speak(socket: Socket, audio_data: str) -> None:
    while True:
        await socket.send({"type": "audio_chunk", "audio_data": audio_data, "format": "pcm"})
        await asyncio.sleep(0.2)


@pytest.mark.gen_test(timeout=30)
async def test_14_the_days_audio_is_not_exceeded(make_protected: Any) -> None:
    """Neither by the session that uses it up nor by a new one."""
    server = await make_protected(limits={"audio_seconds_per_day": 2})
    second = base64.b64encode(bytes(32_000)).decode()
    socket = await Socket.open(server, X_API_Key=MARY)
    await socket.start(session_id="s1", format="pcm", sample_rate=16_000, channels=1)
    speaking = asyncio.create_task(speak(socket, second))
    refusal = await socket.message_of("rate_limit_exceeded")
    speaking.cancel()
    assert "2 seconds of audio a day" in refusal["error"]
    socket.close()
    await socket.closed()
    wire = request("POST", f"{API}/session/start", {"session_id": "s2"}, X_API_Key=MARY)
    assert status_of(await answer_to(server.port, wire)) == 429


@pytest.mark.gen_test(timeout=30)
async def test_14_many_short_sessions_count_as_much_as_a_long_one(make_protected: Any) -> None:
    server = await make_protected(limits={"audio_seconds_per_day": 3}, sessions={"end_wait": 0})
    piece = base64.b64encode(bytes(28_800)).decode()
    socket = await Socket.open(server, X_API_Key=MARY)
    answers = []
    for number in range(6):
        await socket.send({"type": "start_session", "session_id": f"s{number}", "sample_rate": 16_000})
        answers.append((await socket.message_of("session_started", "rate_limit_exceeded"))["type"])
        if answers[-1] == "session_started":
            await socket.send({"type": "audio_chunk", "audio_data": piece, "format": "pcm"})
            await socket.send({"type": "end_session"})
            await socket.message_of("session_ended")
    socket.close()
    await socket.closed()
    assert answers[:3] == ["session_started"] * 3
    assert answers[5] == "rate_limit_exceeded"


@pytest.mark.gen_test
async def test_14_a_refusal_tells_when_to_come_back(make_protected: Any) -> None:
    server = await make_protected(limits={"requests_per_minute": 2})
    wire = request("GET", f"{API}/sessions", X_API_Key=MARY)
    answers = [(await answer_to(server.port, wire)).decode().lower() for _ in range(3)]
    assert [status_of(answer.upper().encode()) for answer in answers] == [200, 200, 429]
    assert 'ratelimit-policy: "requests";q=2;w=60\r\n' in answers[0]
    assert 'ratelimit: "requests";r=1;t=60\r\n' in answers[0]
    head, _, body = answers[2].partition("\r\n\r\n")
    retry_after_s = int(head.partition("retry-after: ")[2].partition("\r\n")[0])
    assert 55 <= retry_after_s <= 60
    assert '"rate_limit_exceeded"' in body


# Row 16: addresses that tell too much.

TELLING_PATHS = [
    "/metrics",
    "/debug",
    "/debug/pprof",
    "/debug/vars",
    "/stats",
    "/status",
    "/admin",
    "/config",
    "/env",
    "/.env",
    "/.git/config",
    "/server-status",
    "/api/v1/live-audio/debug",
    "/api/v1/live-audio/config",
    "/static/../settings.py",
    "/static/%2e%2e/%2e%2e/setup.py",
    "/static/..%2f..%2fapp.py",
    "/static//etc/passwd",
]


async def told(port: int) -> list[str]:
    return [path for path in TELLING_PATHS if status_of(await answer_to(port, request("GET", path))) == 200]


@pytest.mark.gen_test
async def test_16_no_address_tells_about_the_server(protected: Any) -> None:
    assert await told(protected.port) == []
    alive = (await answer_to(protected.port, request("GET", "/livez"))).partition(b"\r\n\r\n")[2]
    assert alive == b'{"status":"ok"}'


@pytest.mark.gen_test
async def test_16_succeeds_unprotected(unprotected: Any) -> None:
    assert await told(unprotected.port)
