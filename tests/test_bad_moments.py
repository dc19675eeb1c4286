"""Ends, losses and errors at moments that suit nobody: every request is answered, no word is lost."""

from __future__ import annotations

import asyncio
import json

import pytest
from support import api, b64, until
from tornado.tcpclient import TCPClient

PCM = {"audio_data": b64(b"\1\0" * 1600), "format": "pcm", "sample_rate": 16000, "channels": 1}


def head(path: str, length: str) -> bytes:
    """Of a raw HTTP request."""
    return f"POST /api/v1/live-audio/{path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode()


async def say(socket, text: str) -> None:
    await socket.send({"type": "text", "text": text})
    await socket.message_of("turn_complete")


@pytest.mark.gen_test
async def test_a_request_whose_chunk_waits_is_answered_when_the_session_expires(make_server, scripted_ears):
    server = await make_server(scripted_ears, sessions={"duration": 1.0})
    await api(server, "/session/start", {"session_id": "short"})
    status, body = await api(server, "/transcribe", PCM | {"session_id": "short", "seq": 5}, timeout_s=5)
    assert (status, body["code"]) in {(410, "session_expired"), (200, None)} or body["success"]


@pytest.mark.gen_test
async def test_text_taken_by_a_request_that_then_fails_comes_with_the_next(server, connect):
    socket = await connect(server)
    await socket.start(session_id="shared")
    garbage = {"audio_data": b64(b"\x1a\x45\xdf\xa3" + b"\xff" * 600), "format": "webm", "seq": 3}
    failing = asyncio.create_task(api(server, "/transcribe", garbage | {"session_id": "shared"}))
    await until(lambda: server.services.registry.get("anonymous", "shared").rest.used)
    await say(socket, "tell me the time")
    status, body = await failing
    assert (status, body["success"]) == (400, False)
    _, ended = await api(server, "/session/end", {"session_id": "shared"})
    assert ended["data"]["transcript"]
    _, again = await api(server, "/session/end", {"session_id": "shared"})
    assert again["data"] == ended["data"]


@pytest.mark.gen_test
async def test_text_for_a_client_that_has_gone_comes_with_the_next_answer(server, connect):
    await api(server, "/session/start", {"session_id": "left"})
    socket = await connect(server)
    await socket.start(session_id="left")
    stream = await TCPClient().connect("127.0.0.1", server.port)
    body = json.dumps(PCM | {"session_id": "left"}).encode()
    await stream.write(head("transcribe", f"Content-Length: {len(body)}") + body)
    session = server.services.registry.get("anonymous", "left")
    await until(lambda: session.rest.used)
    stream.close()
    await say(socket, "hello")
    _, ended = await api(server, "/session/end", {"session_id": "left"})
    assert ended["data"]["transcript"]


@pytest.mark.gen_test
async def test_a_missing_number_holds_the_others_up_for_a_second_only(server, connect):
    socket = await connect(server)
    await socket.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for seq in range(1, 9):
        await socket.send({"type": "audio_chunk", "seq": seq} | PCM)
        await asyncio.sleep(0.25)
    gap = await socket.message_of("audio_gap")
    assert gap["data"] == {"from": 0, "to": 0}
    assert (await socket.message_of("audio_ack"))["data"]["seq"] == 1
    assert loop.time() - began < 4


@pytest.mark.gen_test
@pytest.mark.parametrize("seq", [-1, 2**60])
async def test_an_impossible_number_is_refused(server, connect, seq):
    socket = await connect(server)
    await socket.start()
    await socket.send({"type": "audio_chunk", "seq": seq} | PCM)
    assert (await socket.message_of("error"))["code"] == "invalid_field"


@pytest.mark.gen_test
async def test_every_reader_is_told_that_the_session_has_ended(server, connect):
    first, second = await connect(server), await connect(server)
    await first.start(session_id="two")
    await second.start(session_id="two")
    await api(server, "/session/end", {"session_id": "two"})
    for socket in (first, second):
        assert (await socket.message_of("session_ended"))["data"]["status"] == "ended"
    assert (await second.start())["type"] == "session_started"


@pytest.mark.gen_test
async def test_an_oversized_message_is_told_and_closed(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears, server={"max_message": 1000})
    socket = await connect(server)
    await socket.send(" " * 1001)
    assert (await socket.message())["code"] == "too_large"
    assert await socket.closed() == 1009


@pytest.mark.gen_test
async def test_a_socket_without_a_session_is_told_of_the_end(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears)
    socket = await connect(server)
    await socket.send({"type": "hello"})
    await socket.message()
    await server.stop()
    told = await socket.message()
    assert (told["code"], told["retryable"]) == ("server_shutting_down", True)
    assert await socket.closed() == 1012


@pytest.mark.gen_test
async def test_a_refused_start_keeps_the_connections_session(server, connect):
    socket = await connect(server)
    await socket.start(session_id="kept")
    assert (await socket.start(model="nobody"))["code"] == "unknown_model"
    await socket.send({"type": "get_status"})
    assert (await socket.message_of("session_status"))["session_id"] == "kept"


@pytest.mark.gen_test
async def test_a_chunked_body_over_the_bound_is_answered(server):
    stream = await TCPClient().connect("127.0.0.1", server.port)
    await stream.write(
        head("session/start", "Transfer-Encoding: chunked") + b"11170\r\n" + b" " * 70_000 + b"\r\n0\r\n\r\n"
    )
    answer = await stream.read_until(b"}")
    assert b" 413 " in answer
    assert b'"code":"too_large"' in answer
    stream.close()


@pytest.mark.gen_test
async def test_a_whole_recording_counts_as_a_session_while_it_lasts(make_server, scripted_ears):
    server = await make_server(scripted_ears, limits={"tokens_per_day": 1})
    whole = {"audio_data": b64(b"\0\0" * 16_000), "format": "pcm", "sample_rate": 16000}
    assert (await api(server, "/transcribe", whole))[0] == 200
    status, body = await api(server, "/transcribe", whole)
    assert (status, body["code"]) == (429, "rate_limit_exceeded")
