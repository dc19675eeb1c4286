"""The REST client, against a server that answers with what it received."""

from __future__ import annotations

import pytest
from fake_live_server import Script, make_app
from tornado.testing import bind_unused_port

from tornado_live.client import ClientError, RestClient


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def app(script):
    return make_app(script)


@pytest.fixture
def rest(io_loop, http_server, base_url):
    with RestClient(base_url, "ak_test") as client:
        yield client


@pytest.mark.gen_test
async def test_every_call_goes_to_its_address(rest):
    assert (await rest.sessions())["call"] == "sessions"
    assert (await rest.start())["call"] == "session/start"
    assert (await rest.transcribe(b"\x00"))["call"] == "transcribe"
    assert (await rest.end("s"))["call"] == "session/end"
    assert (await rest.status("s"))["call"] == "session/s/status"


@pytest.mark.gen_test
async def test_only_what_was_asked_for_is_sent(rest):
    assert (await rest.start(session_id="s", language="de"))["body"] == {"session_id": "s", "language": "de"}
    one_shot = (await rest.transcribe(b"\xff\xfe", format="pcm", sample_rate=48_000, channels=2))["body"]
    assert one_shot == {"audio_data": "//4=", "format": "pcm", "sample_rate": 48_000, "channels": 2}
    chunk = (await rest.transcribe(b"\xff\xfe", session_id="s", seq=0))["body"]
    assert chunk["session_id"] == "s"
    assert chunk["seq"] == 0


@pytest.mark.gen_test
async def test_the_key_travels_in_its_header(rest, script):
    script.key = "ak_test"
    assert (await rest.sessions())["success"]
    script.key = "ak_other"
    with pytest.raises(ClientError, match="The key or token is not valid") as failure:
        await rest.sessions()
    assert failure.value.code == "auth_failed"


@pytest.mark.gen_test
async def test_a_refusal_gives_the_servers_code_and_sentence(rest):
    with pytest.raises(ClientError, match="There is no session with this id") as failure:
        await rest.status("none")
    assert failure.value.code == "session_not_found"


@pytest.mark.gen_test
async def test_an_answer_that_is_not_json_is_named(rest):
    with pytest.raises(ClientError) as failure:
        await rest.status("broken")
    assert failure.value.code == "bad_answer"


@pytest.mark.gen_test
async def test_nobody_listening_is_said_with_the_address(io_loop):
    listener, port = bind_unused_port()
    listener.close()
    with (
        RestClient(f"http://localhost:{port}") as rest,
        pytest.raises(ClientError, match=str(port)) as failure,
    ):
        await rest.sessions()
    assert failure.value.code == "cannot_connect"
