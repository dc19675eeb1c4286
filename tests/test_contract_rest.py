"""Every REST row of the contract, over real sockets against the emulator."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from support import API, api, b64, call, chunks

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
START = {
    "session_id": "session_1700000000000_abcdefghi",
    "model": "gemini-live-2.5-flash-preview",
    "response_modality": "text",
    "input_transcription": True,
    "output_transcription": True,
}


@pytest.mark.gen_test
async def test_start_answers_at_both_levels(server):
    status, body = await api(server, "/session/start", START)
    assert status == 200
    assert body["success"] is True
    assert body["session_id"] == START["session_id"]
    data = body["data"]
    assert data["sessionId"] == START["session_id"]
    assert data["status"] == "active"
    assert ISO.fullmatch(data["startTime"])
    assert data["model"] == "gemini-live-2.5-flash-preview"
    assert data["servedModel"] == "gemini-3.8-live"
    assert data["responseModality"] == "text"


@pytest.mark.gen_test
async def test_streaming_start_is_the_same_call(server):
    status, body = await api(server, "/streaming/start", START)
    assert (status, body["session_id"]) == (200, START["session_id"])


@pytest.mark.gen_test
async def test_a_session_without_an_id_gets_an_unguessable_one(server):
    first = (await api(server, "/session/start", {}))[1]["session_id"]
    second = (await api(server, "/session/start", {}))[1]["session_id"]
    assert first != second
    assert len(first) >= 32


@pytest.mark.gen_test
async def test_starting_a_live_id_again_gives_the_same_session(server):
    _, first = await api(server, "/session/start", START)
    _, second = await api(server, "/session/start", START | {"response_modality": "audio"})
    assert first["data"]["startTime"] == second["data"]["startTime"]
    assert second["data"]["responseModality"] == "text"


@pytest.mark.gen_test
async def test_sessions_lists_what_has_not_ended(server):
    assert (await api(server, "/sessions"))[1]["data"] == {"sessions": [], "count": 0}
    await api(server, "/session/start", START)
    data = (await api(server, "/sessions"))[1]["data"]
    assert data["count"] == 1
    assert data["sessions"][0]["sessionId"] == START["session_id"]
    assert data["sessions"][0]["servedModel"] == "gemini-3.8-live"
    await api(server, "/session/end", {"session_id": START["session_id"]})
    assert (await api(server, "/sessions"))[1]["data"]["count"] == 0


@pytest.mark.gen_test
async def test_status_and_end(server):
    await api(server, "/session/start", START)
    path = f"/session/{START['session_id']}/status"
    status, body = await api(server, path)
    assert status == 200
    assert body["data"]["status"] == "active"
    assert ISO.fullmatch(body["data"]["lastActivity"])
    status, first = await api(server, "/session/end", {"session_id": START["session_id"]})
    assert status == 200
    assert first["data"]["status"] == "ended"
    assert ISO.fullmatch(first["data"]["endTime"])
    assert first["data"]["duration"] >= 0
    _, second = await api(server, "/session/end", {"session_id": START["session_id"]})
    assert second["data"]["endTime"] == first["data"]["endTime"]
    ended = (await api(server, path))[1]["data"]
    assert ended["status"] == "ended"
    assert body["data"].keys() - ended.keys() == {"audio"}
    assert (ended["model"], ended["servedModel"]) == (body["data"]["model"], body["data"]["servedModel"])
    assert ended["lastActivity"] >= ended["startTime"]


@pytest.mark.gen_test
async def test_an_ended_id_begins_a_new_conversation(server):
    _, first = await api(server, "/session/start", START)
    await api(server, "/session/end", {"session_id": START["session_id"]})
    status, second = await api(server, "/session/start", START)
    assert status == 200
    assert second["data"]["startTime"] != first["data"]["startTime"]
    assert second["data"]["status"] == "active"


@pytest.mark.gen_test
async def test_status_of_an_unknown_session(server):
    status, body = await api(server, "/session/nobody/status")
    assert status == 404
    assert body["success"] is False
    assert body["code"] == "session_not_found"
    assert isinstance(body["error"], str)
    assert body["data"]["status"] == "not_found"


@pytest.mark.gen_test
async def test_preflight_allows_the_frontends_headers_without_a_key(server):
    response = await call(
        server,
        API + "/transcribe",
        method="OPTIONS",
        headers={
            "Origin": "http://localhost:3009",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-api-key",
        },
    )
    assert response.code in (200, 204)
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3009"
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert "content-type" in allowed
    assert "x-api-key" in allowed
    assert response.headers["Vary"] == "Origin"


@pytest.mark.gen_test
async def test_errors_carry_cors_headers_and_json(server):
    response = await call(server, "/api/v1/nothing", headers={"Origin": "http://localhost:3010"})
    assert response.code == 404
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3010"
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
    assert json.loads(response.body)["code"] == "not_found"
    wrong_method = await call(server, API + "/session/start", method="GET")
    assert wrong_method.code == 405
    assert json.loads(wrong_method.body)["code"] == "method_not_allowed"


@pytest.mark.gen_test
async def test_a_page_of_another_origin_is_refused(server):
    response = await call(server, API + "/sessions", headers={"Origin": "https://evil.example"})
    assert response.code == 403
    assert "Access-Control-Allow-Origin" not in response.headers


BAD = [
    ("/session/start", b"{", 400, "invalid_json"),
    ("/session/start", b"[" * 60_000, 400, "invalid_field"),
    ("/session/start", {"session_id": "../etc"}, 400, "invalid_field"),
    ("/session/start", {"session_id": 7}, 400, "invalid_field"),
    ("/session/start", {"response_modality": "smell"}, 400, "invalid_field"),
    ("/session/start", {"model": "gpt-9"}, 400, "unknown_model"),
    ("/session/start", {"sample_rate": -1, "format": "pcm"}, 400, "invalid_field"),
    ("/session/end", {}, 400, "invalid_field"),
    ("/session/end", {"session_id": "nobody"}, 404, "session_not_found"),
    ("/transcribe", {"session_id": "nobody", "audio_data": "AAAA"}, 404, "session_not_found"),
    ("/transcribe", {"session_id": "s"}, 400, "invalid_field"),
    ("/transcribe", {"session_id": "s", "audio_data": "not base64!"}, 400, "invalid_base64"),
    ("/transcribe", {"session_id": "s", "audio_data": ""}, 400, "empty_audio"),
    ("/transcribe", {"audio_data": b64(b"abc"), "format": "tea"}, 415, "unsupported_audio"),
    ("/transcribe", {"audio_data": b64(b"abc"), "format": "webm"}, 400, "audio_header_missing"),
    ("/transcribe", {"audio_data": b64(b"RIFF" + b"\0" * 40), "format": "tea"}, 415, "unsupported_audio"),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("path", "body", "status", "code"), BAD, ids=[f"{code}-{i}" for i, (*_, code) in enumerate(BAD)]
)
async def test_bad_requests_are_named(server, path, body, status, code):
    got, answer = await api(server, path, body)
    assert (got, answer["code"]) == (status, code)
    assert answer["success"] is False
    assert answer["error"].endswith(".")
    assert "Traceback" not in json.dumps(answer)


@pytest.mark.gen_test
async def test_a_continuation_without_header_is_named(server):
    await api(server, "/session/start", START)
    status, body = await api(
        server,
        "/transcribe",
        {
            "session_id": START["session_id"],
            "audio_data": b64(chunks("webm_opus_1000ms")[3]),
            "format": "webm",
        },
    )
    assert (status, body["code"]) == (400, "audio_header_missing")


@pytest.mark.gen_test
async def test_an_oversized_body_is_refused_before_it_is_read(server):
    status, body = await api(server, "/session/start", b" " * 70_000)
    assert (status, body["code"]) == (413, "too_large")


@pytest.mark.gen_test
async def test_audio_for_an_ended_session_is_gone(server):
    await api(server, "/session/start", START)
    await api(server, "/session/end", {"session_id": START["session_id"]})
    status, body = await api(
        server, "/transcribe", {"session_id": START["session_id"], "audio_data": "AAAA", "format": "pcm"}
    )
    assert (status, body["code"]) == (410, "session_ended")


@pytest.mark.gen_test
async def test_an_older_request_is_answered_soon_after_a_newer_one_came(make_server, scripted_ears):
    server = await make_server(scripted_ears, audio={"transcribe_wait": 0.2, "transcribe_max": 1.0})
    await api(server, "/session/start", START)
    pieces = chunks("webm_opus_1000ms")[:3]

    async def post(piece: bytes) -> tuple[float, dict]:
        body = {
            "session_id": START["session_id"],
            "audio_data": b64(piece),
            "format": "webm",
            "sample_rate": 16000,
            "channels": 1,
        }
        began = asyncio.get_running_loop().time()
        _, answer = await api(server, "/transcribe", body)
        return asyncio.get_running_loop().time() - began, answer

    posts = []
    for piece in pieces:
        posts.append(asyncio.create_task(post(piece)))
        await asyncio.sleep(0.02)
    results = await asyncio.gather(*posts)
    for _, answer in results:
        assert answer["success"] is True
        assert "transcript" not in answer
        assert set(answer["data"]) >= {
            "sessionId", "inputTranscription", "outputTranscription", "transcript", "audioBuffer",
            "confidence", "timestamp", "model", "responseModality",
        }  # fmt: skip
    assert results[0][0] < results[2][0]


@pytest.mark.gen_test
async def test_a_repeated_seq_is_answered_and_not_fed_twice(make_server, scripted_ears):
    server = await make_server(scripted_ears, audio={"transcribe_wait": 0.05, "transcribe_max": 0.3})
    await api(server, "/session/start", START)
    body = {
        "session_id": START["session_id"], "audio_data": b64(b"\1\0" * 1600), "format": "pcm",
        "sample_rate": 16000, "channels": 1, "seq": 0,
    }  # fmt: skip
    await api(server, "/transcribe", body)
    status, answer = await api(server, "/transcribe", body)
    assert (status, answer["success"]) == (200, True)
    data = (await api(server, f"/session/{START['session_id']}/status"))[1]["data"]
    assert data["audio"]["seconds"] == pytest.approx(0.1)
    assert data["audio"]["lostBytes"] == 0


@pytest.mark.gen_test
async def test_the_status_says_how_many_bytes_made_no_sense(make_server, scripted_ears):
    server = await make_server(scripted_ears, audio={"transcribe_wait": 0.05, "transcribe_max": 0.3})
    await api(server, "/session/start", START)
    for number, piece in enumerate(chunks("webm_opus_250ms")[:8]):
        sent = bytes(300) if number == 5 else piece
        body = {"session_id": START["session_id"], "audio_data": b64(sent), "format": "webm"}
        await api(server, "/transcribe", body)
    data = (await api(server, f"/session/{START['session_id']}/status"))[1]["data"]
    assert data["audio"]["container"] == "webm"
    assert 300 <= data["audio"]["lostBytes"] < 2_000


@pytest.mark.gen_test
async def test_seq_decides_the_order(make_server, scripted_ears):
    server = await make_server(scripted_ears, audio={"transcribe_wait": 0.05, "transcribe_max": 0.5})
    await api(server, "/session/start", START)
    pieces = chunks("webm_opus_1000ms")[:3]

    async def post(seq: int) -> int:
        body = {
            "session_id": START["session_id"],
            "audio_data": b64(pieces[seq]),
            "format": "webm",
            "seq": seq,
        }
        return (await api(server, "/transcribe", body))[0]

    assert await asyncio.gather(post(2), post(1), post(0)) == [200, 200, 200]
    data = (await api(server, f"/session/{START['session_id']}/status"))[1]["data"]
    assert data["audio"]["seconds"] == pytest.approx(3.0, abs=0.1)


@pytest.mark.gen_test
async def test_the_named_test_session_starts_twice_against_one_store(make_server, scripted_ears, tmp_path):
    for _ in range(2):
        server = await make_server(scripted_ears, str(tmp_path / "store.sqlite3"))
        status, body = await api(server, "/session/start", {"session_id": "test_session"})
        assert (status, body["session_id"]) == (200, "test_session")
        await server.stop()
