"""Pages of other origins: rows 1 and 19."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from callers import PAGE
from raw import answer_to, request, status_of, upgrade

STRANGE_ORIGINS = [
    "null",
    "HTTPS://GOOD.EXAMPLE",
    "https://good.example:444",
    "https://good.example:443",
    "https://evil-good.example",
    "https://good.example.evil",
    "https://good.example.",
    "http://good.example",
    "https://xn--gd-jlcb.example",
    "https://good.example@evil.example",
    "https://good.example/",
    "https://good.example, https://evil.example",
    "https://evil.example",
    "http://localhost:3000",
]


async def sockets_opened(port: int) -> int:
    """By 14 foreign origins, each with every word a browser may say about its site."""
    openings = [
        answer_to(port, upgrade(Origin=origin, Sec_Fetch_Site=site))
        for origin in STRANGE_ORIGINS
        for site in ("cross-site", "same-site", "same-origin", "none")
    ]
    return [status_of(answer) for answer in await asyncio.gather(*openings)].count(101)


@pytest.mark.gen_test
async def test_01_no_foreign_page_opens_a_socket(protected: Any) -> None:
    assert await sockets_opened(protected.port) == 0
    assert status_of(await answer_to(protected.port, upgrade(Origin=PAGE))) == 101


@pytest.mark.gen_test
async def test_01_succeeds_unprotected(unprotected: Any) -> None:
    assert await sockets_opened(unprotected.port) > 0


async def sessions_read_by_a_rebound_name(port: int) -> int:
    """A page whose own name was pointed at this machine: the browser takes it for the same origin."""
    wires = [
        f"GET /api/v1/live-audio/{path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: x\r\n\r\n".encode()
        for path in ("sessions", "session/s1/status", "session/s1/transcript")
        for host in ("rebound.evil.example", f"rebound.evil.example:{port}", "169.254.169.254")
    ]
    return [status_of(await answer_to(port, wire)) for wire in wires].count(200)


@pytest.mark.gen_test
async def test_01_a_rebound_name_reads_nothing(make_server: Any, scripted_ears: Any) -> None:
    """On a laptop, with `auth.mode: none`."""
    server = await make_server(scripted_ears)
    started = await answer_to(
        server.port, request("POST", "/api/v1/live-audio/session/start", {"session_id": "s1"})
    )
    assert status_of(started) == 200
    assert await sessions_read_by_a_rebound_name(server.port) == 0
    assert status_of(await answer_to(server.port, request("GET", "/api/v1/live-audio/sessions"))) == 200


@pytest.mark.gen_test
async def test_01_rebinding_succeeds_unprotected(unprotected: Any) -> None:
    unprotected.open_to_all = True
    unprotected.sessions["s1"] = {}
    assert await sessions_read_by_a_rebound_name(unprotected.port) > 0


METHODS_AND_PATHS = [
    ("OPTIONS", "/api/v1/live-audio/transcribe"),
    ("OPTIONS", "/api/v1/live-audio/nowhere"),
    ("GET", "/api/v1/live-audio/sessions"),
    ("POST", "/api/v1/live-audio/session/start"),
    ("DELETE", "/api/v1/live-audio/sessions"),
    ("GET", "/api/v1/live-audio/nowhere"),
]


async def pages_let_read(port: int, origins: list[str]) -> int:
    """Answers that a page of such an origin could read, cookies and all, or that a cache would mix up."""
    readable = 0
    for method, path in METHODS_AND_PATHS:
        for origin in origins:
            answer = await answer_to(port, request(method, path, Origin=origin))
            head = answer.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:])
            allowed = headers.get("access-control-allow-origin")
            readable += allowed in (origin, "*")
            readable += headers.get("access-control-allow-credentials") == "true"
            readable += "origin" not in headers.get("vary", "")
    return readable


@pytest.mark.gen_test
async def test_19_no_answer_can_be_read_by_a_foreign_page(protected: Any) -> None:
    foreign = ["https://evil.example", "null", "https://good.example.evil", "http://good.example"]
    assert await pages_let_read(protected.port, foreign) == 0
    for method, path in METHODS_AND_PATHS:
        answer = await answer_to(protected.port, request(method, path, Origin=PAGE))
        assert f"access-control-allow-origin: {PAGE}\r\n".encode() in answer.lower()
        assert b"access-control-allow-credentials" not in answer.lower()


@pytest.mark.gen_test
async def test_19_succeeds_unprotected(unprotected: Any) -> None:
    assert await pages_let_read(unprotected.port, ["https://evil.example"]) > 0
