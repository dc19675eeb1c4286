"""The WebSocket client, against a server that speaks the wire."""

from __future__ import annotations

import pytest
from fake_live_server import Script, make_app
from tornado.testing import bind_unused_port

from tornado_live.client import ClientError, LiveClient


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def app(script):
    return make_app(script)


@pytest.mark.gen_test
async def test_hello_asks_for_binary_frames_and_tells_who_answers(http_server, base_url, script):
    async with await LiveClient.connect(base_url) as live:
        assert live.server["engine"] == "offline demo engine"
    assert script.messages == [{"type": "hello", "version": 1, "binary": True}]


@pytest.mark.gen_test
async def test_a_session_gives_its_texts_and_ends_the_iteration(http_server, base_url, script):
    async with await LiveClient.connect(base_url) as live:
        started = await live.start(session_id="mine", format="webm")
        await live.send_audio(b"\x00\x01\xff")
        await live.send_audio(b"\x02")
        await live.flush()
        await live.end()
        messages = [message async for message in live]
    assert started["session_id"] == live.session_id == "mine"
    assert script.messages[1] == {"type": "start_session", "session_id": "mine", "format": "webm"}
    assert bytes(script.audio) == b"\x00\x01\xff\x02"
    texts = [
        message["data"]["inputTranscription"]
        for message in messages
        if message["type"] == "transcription_result"
    ]
    assert texts == ["3 bytes so far", "4 bytes so far", "4 bytes"]
    assert messages[-1]["type"] == "session_ended"


@pytest.mark.gen_test
async def test_a_typed_turn_is_answered(http_server, base_url):
    async with await LiveClient.connect(base_url) as live:
        await live.start()
        await live.send_text("Grüße")
        await live.end()
        first = await anext(aiter(live))
    assert first["data"]["transcript"] == "You wrote: Grüße"


@pytest.mark.gen_test
async def test_a_key_is_sent_before_the_session_starts(http_server, base_url, script):
    script.key = "ak_right"
    async with await LiveClient.connect(base_url, "ak_right") as live:
        await live.start()
    assert script.journal == ["hello", "auth", "start_session"]


@pytest.mark.gen_test
async def test_a_wrong_key_is_refused_in_the_servers_words(http_server, base_url, script):
    script.key = "ak_right"
    with pytest.raises(ClientError, match="The key or token is not valid") as failure:
        await LiveClient.connect(base_url, "ak_wrong")
    assert failure.value.code == "auth_failed"


@pytest.mark.gen_test
async def test_a_refused_start_gives_the_servers_code_and_sentence(http_server, base_url, script):
    script.refuse_start = {"type": "error", "code": "unknown_model", "error": "The server knows model-a."}
    async with await LiveClient.connect(base_url) as live:
        with pytest.raises(ClientError, match="The server knows model-a") as failure:
            await live.start(model="model-z")
    assert failure.value.code == "unknown_model"


@pytest.mark.gen_test
async def test_nobody_listening_is_said_with_the_address(io_loop):
    listener, port = bind_unused_port()
    listener.close()
    with pytest.raises(
        ClientError, match=f"No tornado-live server answers at http://localhost:{port}"
    ) as failure:
        await LiveClient.connect(f"http://localhost:{port}")
    assert failure.value.code == "cannot_connect"


@pytest.mark.gen_test
async def test_a_server_of_another_kind_is_told_from_none(http_server, base_url):
    with pytest.raises(ClientError, match="refuses the connection") as failure:
        await LiveClient.connect(base_url + "/elsewhere")
    assert failure.value.code == "cannot_connect"


@pytest.mark.gen_test
async def test_a_lost_connection_ends_the_iteration_with_an_error(http_server, base_url, script):
    script.cut_after_bytes = 1
    async with await LiveClient.connect(base_url) as live:
        await live.start()
        await live.send_audio(b"\x00")
        with pytest.raises(ClientError) as failure:
            async for _ in live:
                pass
    assert failure.value.code == "connection_lost"


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://localhost", "", "http://"])
@pytest.mark.gen_test
async def test_an_address_that_is_none_is_refused(io_loop, url):
    with pytest.raises(ClientError) as failure:
        await LiveClient.connect(url)
    assert failure.value.code == "bad_address"
