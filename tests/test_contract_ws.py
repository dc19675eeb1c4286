"""Every WebSocket row of the contract, over real sockets against the emulator."""

from __future__ import annotations

import json

import pytest
from support import b64, chunks
from tornado.httpclient import HTTPClientError


@pytest.mark.gen_test
async def test_the_first_frame_after_start_is_session_started(server, connect):
    for _ in range(2):
        socket = await connect(server, path="/", port=server.websocket_port)
        await socket.send({"type": "start_session", "session_id": "test_ws_session"})
        message = await socket.message()
        assert message["type"] == "session_started"
        assert message["session_id"] == "test_ws_session"
        assert message["data"]["status"] == "active"
        socket.close()


@pytest.mark.gen_test
async def test_text_is_answered_with_the_whole_exchange(server, connect):
    socket = await connect(server)
    await socket.start(session_id="s1", model="gemini-2.0-flash-exp")
    await socket.send({"type": "text", "text": "hello there"})
    while not (message := await socket.message_of("transcription_result"))["data"]["final"]:
        pass
    data = message["data"]
    assert data["sessionId"] == "s1"
    assert data["inputTranscription"] == "hello there"
    assert data["transcript"]
    assert data["model"] == "gemini-2.0-flash-exp"
    assert data["servedModel"] == "gemini-3.8-live"
    assert data["turnId"] == "t1"
    assert (await socket.message_of("turn_complete"))["data"]["turnId"] == "t1"
    numbers = [each["seq"] for each in socket.seen if "seq" in each]
    assert numbers == sorted(set(numbers))


@pytest.mark.gen_test
async def test_an_audio_session_gets_one_wav_at_the_end(server, connect):
    socket = await connect(server)
    await socket.start(response_modality="audio")
    await socket.send({"type": "text", "text": "hello"})
    buffers = []
    while True:
        data = (await socket.message_of("transcription_result"))["data"]
        buffers.append(data["audioBuffer"])
        if data["final"]:
            break
    assert all(buffer is None for buffer in buffers[:-1])
    assert buffers[-1].startswith("UklGR")


@pytest.mark.gen_test
async def test_streamed_audio_comes_as_binary_frames_when_asked_for(server, connect):
    socket = await connect(server)
    await socket.send({"type": "hello", "binary": True})
    connected = await socket.message()
    assert connected["type"] == "connected"
    assert connected["data"]["engine"]
    await socket.start(response_modality="audio", audio_delivery="stream")
    await socket.send({"type": "text", "text": "hello"})
    header = await socket.message_of("audio_output")
    frame = await socket.frame()
    assert isinstance(frame, bytes)
    assert len(frame) == header["data"]["bytes"]


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", ["auth", "api_key", "bearer"])
async def test_any_token_succeeds_where_no_auth_is_needed(server, kind, connect):
    socket = await connect(server)
    await socket.send({"type": kind, "token": "ak_anything"})
    assert (await socket.message())["type"] == "auth_success"


@pytest.mark.gen_test
async def test_status_limits_and_end(server, connect):
    socket = await connect(server)
    await socket.start(session_id="s2")
    await socket.send({"type": "get_status"})
    status = await socket.message()
    assert status["type"] == "session_status"
    assert status["data"]["status"] == "active"
    assert "requestsPerMinute" in status["data"]["rateLimits"]
    await socket.send({"type": "get_rate_limits"})
    limits = await socket.message()
    assert limits["type"] == "rate_limit_status"
    assert limits["data"]["requestsPerMinute"]["limit"] == 600
    await socket.send({"type": "end_session"})
    ended = await socket.message_of("session_ended")
    assert ended["data"]["status"] == "ended"
    assert ended["data"]["duration"] >= 0


BAD = [
    ("{", "invalid_json"),
    ("[1]", "invalid_field"),
    ('{"no": "type"}', "invalid_field"),
    ('{"type": "dance"}', "unknown_message"),
    ('{"type": "audio_chunk", "audio_data": "AAAA"}', "no_session"),
    ('{"type": "audio_chunk"}', "invalid_field"),
    ('{"type": "get_status"}', "no_session"),
    ('{"type": "end_session"}', "no_session"),
    ('{"type": "start_session", "session_id": "a b"}', "invalid_field"),
    ('{"type": "start_session", "model": "nobody"}', "unknown_model"),
    (b"\x00\x01", "no_session"),
]


@pytest.mark.gen_test
async def test_bad_messages_get_an_error_and_the_socket_stays_open(server, connect):
    socket = await connect(server)
    for frame, code in BAD:
        await socket.send(frame)
        message = await socket.message()
        assert (message["type"], message["code"]) == ("error", code), frame
        assert message["error"].endswith(".")
    assert (await socket.start())["type"] == "session_started"


@pytest.mark.gen_test
async def test_bad_audio_gets_an_error_and_the_session_goes_on(server, connect):
    socket = await connect(server)
    await socket.start()
    for data, kind, code in [
        (chunks("webm_opus_1000ms")[2], "webm", "audio_header_missing"),
        (b"nonsense" * 10, "tea", "unsupported_audio"),
    ]:
        await socket.send({"type": "audio_chunk", "audio_data": b64(data), "format": kind})
        assert (await socket.message_of("error"))["code"] == code
    await socket.send({"type": "audio_chunk", "audio_data": "AAAA" * 100, "format": "pcm"})
    await socket.send({"type": "get_status"})
    assert (await socket.message_of("session_status"))["data"]["audio"]["codec"] == "s16le"


@pytest.mark.gen_test
async def test_a_recording_is_decoded_however_it_is_sent(server, connect):
    seconds = []
    for binary in (False, True):
        socket = await connect(server)
        await socket.start(format="webm")
        for piece in chunks("webm_opus_250ms"):
            message = {
                "type": "audio_chunk",
                "audio_data": b64(piece),
                "format": "webm",
                "sample_rate": 16000,
            }
            await socket.send(piece if binary else message)
        await socket.send({"type": "get_status"})
        audio = (await socket.message_of("session_status"))["data"]["audio"]
        assert (audio["container"], audio["codec"]) == ("webm", "opus")
        seconds.append(audio["seconds"])
        socket.close()
    assert seconds[0] == seconds[1] == pytest.approx(11.94)


@pytest.mark.gen_test
async def test_a_page_of_another_origin_gets_no_socket(server, connect):
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "same-origin"},
    ):
        with pytest.raises(HTTPClientError) as refused:
            await connect(server, **headers)
        assert refused.value.code == 403
    assert (await (await connect(server, Origin="http://localhost:3009")).start())[
        "type"
    ] == "session_started"


@pytest.mark.gen_test
async def test_keys_of_the_settings_are_accepted_and_others_are_not(make_server, scripted_ears, connect):
    key = "ak_0123456789abcdef"
    server = await make_server(
        scripted_ears, auth={"mode": "keys", "keys": [{"name": "site", "secret": key}], "timeout": 0.5}
    )
    good = await connect(server)
    await good.send({"type": "start_session"})
    assert (await good.message())["type"] == "auth_required"
    await good.send({"type": "api_key", "token": key})
    assert (await good.message())["type"] == "auth_success"
    assert (await good.start())["type"] == "session_started"
    bad = await connect(server)
    await bad.send({"type": "auth", "token": "ak_wrong_key_wrong"})
    assert (await bad.message())["type"] == "auth_failed"
    assert await bad.closed() == 1008
    silent = await connect(server)
    assert (await silent.message())["type"] == "auth_timeout"
    assert await silent.closed() == 1008
    in_header = await connect(server, X_API_Key=key)
    assert (await in_header.start())["type"] == "session_started"


@pytest.mark.gen_test
async def test_an_expired_session_is_told_and_closed(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears, sessions={"duration": 0.6, "cleanup_interval": 0.1})
    socket = await connect(server)
    await socket.start(session_id="short")
    message = await socket.message_of("session_expired")
    assert message["code"] == "session_expired"
    assert await socket.closed() == 4410


@pytest.mark.gen_test
async def test_an_idle_session_is_told_and_closed(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears, sessions={"idle_timeout": 0.5, "cleanup_interval": 0.1})
    socket = await connect(server)
    await socket.start()
    assert (await socket.message_of("inactivity_timeout"))["code"] == "inactivity_timeout"
    assert await socket.closed() == 4408


@pytest.mark.gen_test
async def test_a_full_server_says_so(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears, sessions={"max": 1})
    assert (await (await connect(server)).start())["type"] == "session_started"
    refused = await (await connect(server)).start()
    assert refused["code"] == "too_many_sessions"
    assert refused["retryable"] is True
    assert refused["retry_after_ms"] > 0


@pytest.mark.gen_test
async def test_a_reply_that_is_stopped_says_what_was_heard_of_it(server, connect):
    socket = await connect(server)
    await socket.start(response_modality="audio", audio_delivery="stream")
    await socket.send({"type": "text", "text": "one two three four five six seven eight nine ten"})
    turn_id = (await socket.message_of("audio_output"))["data"]["turnId"]
    while not (await socket.message_of("transcription_result"))["data"]["transcript"]:
        pass
    await socket.send({"type": "playback", "turn_id": turn_id, "played_ms": 60_000})
    await socket.send({"type": "cancel"})
    stopped = (await socket.message_of("interrupted"))["data"]
    assert stopped["turnId"] == turn_id
    assert 0 < stopped["heardMs"] < 60_000
    final = (await socket.message_of("transcription_result"))["data"]["transcript"]
    assert final.startswith(stopped["heardText"])


@pytest.mark.gen_test
async def test_every_message_of_the_server_is_json_with_a_type(server, connect):
    socket = await connect(server)
    await socket.start()
    await socket.send({"type": "text", "text": "what time is it?"})
    await socket.message_of("turn_complete")
    await socket.send({"type": "flush"})
    await socket.send({"type": "cancel"})
    await socket.send({"type": "end_session"})
    await socket.message_of("session_ended")
    for message in socket.seen:
        assert isinstance(message["type"], str)
        json.dumps(message)
