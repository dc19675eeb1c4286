"""An upstream in trouble, as clients see it: a clear error, nothing lost, nothing left half-open."""

from __future__ import annotations

import asyncio

import pytest
from support import api, until

from tornado_live.emulator import EmulatorOptions, EmulatorThread
from tornado_live.emulator.scenarios import builtin_scenarios
from tornado_live.settings import read_yaml

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faulty():
    """An emulator whose scenarios are reached at `/scn/NAME`."""
    emulator = EmulatorThread(
        EmulatorOptions(ears="scripted", voice="tone", scenarios=builtin_scenarios(read_yaml))
    )
    emulator.start()
    yield emulator
    emulator.stop()


def at(emulator: EmulatorThread, scenario: str) -> dict[str, str]:
    return {"base_url": f"{emulator.url}/scn/{scenario}"}


@pytest.mark.gen_test
async def test_a_refused_start_is_502_and_leaves_no_session(make_server, faulty, connect):
    server = await make_server(faulty, gemini=at(faulty, "setup-refused"))
    status, body = await api(server, "/session/start", {"session_id": "refused"})
    assert (status, body["code"]) == (502, "upstream_refused")
    assert (await api(server, "/sessions"))[1]["data"]["count"] == 0
    assert server.services.registry.live == []
    socket = await connect(server)
    assert (await socket.start())["code"] == "upstream_refused"
    await socket.send({"type": "get_rate_limits"})
    assert (await socket.message())["type"] == "rate_limit_status"


@pytest.mark.gen_test
async def test_a_hanging_upstream_answers_connecting_and_then_fails(make_server, faulty, connect):
    server = await make_server(
        faulty,
        gemini=at(faulty, "setup-never") | {"connect_timeout": 1.0},
        sessions={"start_wait": 0.3},
    )
    socket = await connect(server)
    started = await socket.start(session_id="hanging")
    assert started["data"]["status"] == "connecting"
    failed = await socket.message_of("error", timeout_s=30)
    assert failed["code"] == "upstream_timeout"
    assert await socket.closed() == 4502
    assert (await api(server, "/session/hanging/status"))[1]["data"]["status"] == "failed"


@pytest.mark.gen_test
async def test_audio_sent_while_connecting_is_not_lost(make_server, faulty, connect):
    server = await make_server(faulty, gemini=at(faulty, "setup-late"), sessions={"start_wait": 0.05})
    socket = await connect(server)
    assert (await socket.start(format="pcm"))["data"]["status"] == "connecting"
    await socket.send({"type": "text", "text": "hello"})
    message = await socket.message_of("turn_complete", timeout_s=30)
    assert message["data"]["turnId"] == "t1"


@pytest.mark.filterwarnings("ignore:.* is not a valid")  # the SDK's word on values it does not know
@pytest.mark.gen_test
@pytest.mark.parametrize("scenario", ["malformed", "wrong-types", "novelties", "odd-frames"])
async def test_nonsense_from_upstream_reaches_no_client(make_server, faulty, connect, scenario):
    server = await make_server(faulty, gemini=at(faulty, scenario))
    socket = await connect(server)
    assert (await socket.start())["type"] == "session_started"
    await socket.send({"type": "text", "text": "hello"})
    await socket.message_of("turn_complete", "turn_failed", "error", timeout_s=40)
    for message in socket.seen:
        assert "Traceback" not in str(message)
    await socket.send({"type": "get_rate_limits"})
    assert (await socket.message_of("rate_limit_status"))["data"]


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_starting_leaves_nothing(make_server, faulty, connect):
    server = await make_server(
        faulty,
        gemini=at(faulty, "setup-never") | {"connect_timeout": 0.5},
        sessions={"start_wait": 0.3, "resume_grace": 0.2, "cleanup_interval": 0.1},
    )
    socket = await connect(server)
    await socket.send({"type": "start_session", "session_id": "gone"})
    await until(lambda: server.services.registry.live)
    socket.close()
    await until(lambda: not server.services.registry.live, timeout_s=30)
    await asyncio.sleep(0)
    assert (await api(server, "/session/gone/status"))[1]["data"]["status"] in ("failed", "ended")


@pytest.mark.gen_test
async def test_a_model_that_answers_nothing_is_nudged_once_where_the_settings_say_so(
    make_server, faulty, connect
):
    server = await make_server(faulty, gemini=at(faulty, "empty-turns") | {"nudge": "Please answer."})
    socket = await connect(server)
    await socket.start()
    await socket.send({"type": "text", "text": "hello?"})
    failed = await socket.message_of("turn_failed", timeout_s=20)
    assert failed["data"]["reason"] == "empty"
    journal = list(faulty.journal)
    connection = journal[-1]["connection"]
    said = [entry["what"] for entry in journal if (entry["connection"], entry["dir"]) == (connection, "in")]
    assert said == ["setup", "realtimeInput.text", "realtimeInput.text"]
