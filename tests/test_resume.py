"""The client's way back: resume, take-over, restart, observers."""

from __future__ import annotations

import json

import pytest
from support import api, b64, until
from tornado.httpclient import AsyncHTTPClient, HTTPRequest


async def say(socket, text: str) -> dict:
    """Types a text and reads to the end of its exchange."""
    await socket.send({"type": "text", "text": text})
    return await socket.message_of("turn_complete")


def replies(messages: list[dict]) -> list[str]:
    return [
        m["data"]["transcript"]
        for m in messages
        if m["type"] == "transcription_result" and m["data"]["final"]
    ]


@pytest.mark.gen_test
async def test_a_lost_socket_is_resumed_without_hole_or_duplicate(server, connect):
    first = await connect(server)
    started = await first.start(session_id="resumed")
    await say(first, "one")
    last_seq = max(message.get("seq", 0) for message in first.seen)
    await first.send({"type": "text", "text": "two"})
    await until(lambda: server.services.registry.get("anonymous", "resumed").log.last_seq > last_seq + 1)
    first.close()
    await until(lambda: not server.services.registry.get("anonymous", "resumed").readers)
    second = await connect(server)
    await second.send(
        {
            "type": "resume",
            "session_id": "resumed",
            "resume_token": started["data"]["resumeToken"],
            "last_seq": last_seq,
        }
    )
    resumed = await second.message()
    assert resumed["type"] == "resumed"
    assert resumed["data"]["gap"] is None
    assert resumed["data"]["resumeToken"] != started["data"]["resumeToken"]
    await second.message_of("turn_complete")
    numbers = [message["seq"] for message in second.seen if "seq" in message]
    assert numbers == list(range(last_seq + 1, last_seq + 1 + len(numbers)))
    await second.send({"type": "end_session"})
    await second.message_of("session_ended")


@pytest.mark.gen_test
async def test_what_is_too_old_is_named_as_a_gap(server, connect):
    first = await connect(server)
    token = (await first.start(session_id="gap"))["data"]["resumeToken"]
    await say(first, "one")
    await first.send({"type": "ack", "seq": 2})
    await first.send({"type": "get_status"})
    await first.message_of("session_status")
    second = await connect(server)
    await second.send({"type": "resume", "session_id": "gap", "resume_token": token, "last_seq": 0})
    resumed = await second.message()
    assert resumed["data"]["gap"] == {"from": 1, "to": 2}
    assert (await second.message())["seq"] == 3


@pytest.mark.gen_test
async def test_the_second_attach_takes_over(server, connect):
    first = await connect(server)
    token = (await first.start(session_id="taken"))["data"]["resumeToken"]
    second = await connect(server)
    await second.send({"type": "resume", "session_id": "taken", "resume_token": token})
    assert (await second.message())["type"] == "resumed"
    replaced = await first.message_of("replaced")
    assert replaced["code"] == "session_replaced"
    assert await first.closed() == 4409
    await say(second, "still here")


@pytest.mark.gen_test
async def test_an_old_or_wrong_token_looks_like_no_session(server, connect):
    first = await connect(server)
    token = (await first.start(session_id="guarded"))["data"]["resumeToken"]
    second = await connect(server)
    await second.send({"type": "resume", "session_id": "guarded", "resume_token": token})
    assert (await second.message())["type"] == "resumed"
    await say(second, "it is me")
    answers = []
    for session_id, tried in [("guarded", token), ("guarded", "guess"), ("nobody", "guess")]:
        thief = await connect(server)
        await thief.send({"type": "resume", "session_id": session_id, "resume_token": tried})
        answers.append(await thief.message())
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["code"] == "resume_refused"


@pytest.mark.gen_test
async def test_a_detached_session_ends_after_the_grace(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears, sessions={"resume_grace": 0.3, "cleanup_interval": 0.1})
    socket = await connect(server)
    await socket.start(session_id="left")
    socket.close()
    await until(lambda: server.services.registry.get("anonymous", "left") is None)
    assert (await api(server, "/session/left/status"))[1]["data"]["status"] == "ended"


@pytest.mark.gen_test
async def test_a_client_resumes_with_a_server_that_was_restarted(
    make_server, scripted_ears, connect, tmp_path
):
    store = str(tmp_path / "store.sqlite3")
    first = await make_server(scripted_ears, store)
    socket = await connect(first)
    started = await socket.start(session_id="survivor")
    await say(socket, "my name is Ada")
    last_seq = max(message.get("seq", 0) for message in socket.seen)
    await first.stop()
    second = await make_server(scripted_ears, store)
    assert (await api(second, "/session/survivor/status"))[1]["data"]["status"] == "detached"
    back = await connect(second)
    await back.send(
        {
            "type": "resume",
            "session_id": "survivor",
            "resume_token": started["data"]["resumeToken"],
            "last_seq": last_seq,
        }
    )
    resumed = await back.message()
    assert resumed["type"] == "resumed"
    assert resumed["data"]["epoch"] == started["data"]["epoch"] + 1
    assert resumed["data"]["startTime"] == started["data"]["startTime"]
    await say(back, "go on")
    assert min(message["seq"] for message in back.seen if "seq" in message) > last_seq
    _, transcript = await api(second, "/session/survivor/transcript")
    said = [turn["text"] for turn in transcript["data"]["turns"] if turn["role"] == "user"]
    assert said == ["my name is Ada", "go on"]


@pytest.mark.gen_test
async def test_numbered_chunks_are_acknowledged_in_order_and_once(server, connect):
    socket = await connect(server)
    await socket.start(format="pcm")
    piece = b64(b"\0\0" * 1600)
    for seq in (0, 2, 1, 1, 3):
        await socket.send({"type": "audio_chunk", "audio_data": piece, "format": "pcm", "seq": seq})
    acknowledged = [(await socket.message_of("audio_ack"))["data"]["seq"] for _ in range(4)]
    assert acknowledged == [0, 1, 2, 3]
    await socket.send({"type": "get_status"})
    assert (await socket.message_of("session_status"))["data"]["audio"]["seconds"] == pytest.approx(0.4)


@pytest.mark.gen_test
async def test_the_end_is_announced_and_can_be_moved(make_server, scripted_ears, connect):
    server = await make_server(
        scripted_ears, sessions={"duration": 10.2, "extend_by": 30.0, "max_duration": 30.0}
    )
    socket = await connect(server)
    await socket.start()
    assert (await socket.message_of("session_expiring"))["data"]["inMs"] == 10_000
    await socket.send({"type": "extend_session"})
    assert (await socket.message_of("session_extended"))["data"]["expiresAt"]
    await socket.send({"type": "extend_session"})
    assert (await socket.message_of("error"))["code"] == "extension_refused"


@pytest.mark.gen_test
async def test_draining_tells_all_and_closes_with_1012(make_server, scripted_ears, connect):
    server = await make_server(scripted_ears)
    sockets = [await connect(server) for _ in range(5)]
    for socket in sockets:
        await socket.start()
    await sockets[0].send({"type": "text", "text": "finish this"})
    await until(lambda: any(session.busy for session in server.services.registry.live))
    await server.drain()
    for socket in sockets:
        assert (await socket.message_of("server_going_away"))["data"]["deadlineMs"] > 0
        assert await socket.closed() == 1012
    assert replies(sockets[0].seen) != []


@pytest.mark.gen_test
async def test_events_are_read_as_server_sent_events(server, connect):
    socket = await connect(server)
    await socket.start(session_id="watched")
    await say(socket, "before")
    received = bytearray()
    url = f"http://127.0.0.1:{server.port}/api/v1/live-audio/session/watched/events"
    request = HTTPRequest(url, headers={"Last-Event-ID": "0"}, streaming_callback=received.extend)
    reading = AsyncHTTPClient().fetch(request)
    await until(lambda: b"event: turn_complete" in received)
    await say(socket, "after")
    await until(lambda: received.count(b"event: turn_complete") == 2)
    await socket.send({"type": "end_session"})
    await reading
    events = [block for block in received.decode().split("\n\n") if block.startswith("id: ")]
    numbers = [int(block.split("\n")[0].removeprefix("id: ")) for block in events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert json.loads(events[0].split("data: ")[1])["session_id"] == "watched"


@pytest.mark.gen_test
async def test_transcripts_come_in_every_format(server, connect):
    socket = await connect(server)
    await socket.start(session_id="exported")
    await say(socket, "a < b & c")
    _, body = await api(server, "/session/exported/transcript")
    turn = body["data"]["turns"][0]
    assert (turn["role"], turn["text"], turn["turnId"]) == ("user", "a < b & c", "t1")
    assert turn["startMs"] <= turn["endMs"]
    url = f"http://127.0.0.1:{server.port}/api/v1/live-audio/session/exported/transcript?format="
    client = AsyncHTTPClient()
    exported = {
        name: (await client.fetch(url + name)).body.decode() for name in ("text", "srt", "vtt", "markdown")
    }
    assert exported["text"].startswith("User: a < b & c\nModel: ")
    assert exported["srt"].startswith("1\n00:00:0")
    assert " --> " in exported["srt"]
    assert exported["vtt"].startswith("WEBVTT\n\n")
    assert "<v User>a &lt; b &amp; c" in exported["vtt"]
    assert exported["markdown"].startswith("**User** (00:00:0")
    status, refused = await api(server, "/session/exported/transcript?format=docx")
    assert (status, refused["code"]) == (400, "invalid_field")
