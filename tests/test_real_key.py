"""The same main job against Google itself."""

from __future__ import annotations

import pytest
from support import DATA, GOOGLE_KEY, JFK, Socket, wrong_words

from tornado_live.app import LiveServer
from tornado_live.settings import Settings

pytestmark = [
    pytest.mark.real_key,
    pytest.mark.skipif(GOOGLE_KEY is None, reason="needs GOOGLE_API_KEY"),
]


@pytest.mark.gen_test(timeout=60)
async def test_gemini_hears_the_sentence():
    settings = {
        "server": {"host": "127.0.0.1", "port": 0},
        "store": {"path": ":memory:"},
        "gemini": {"api_key": GOOGLE_KEY},
        "emulator": {"mode": "never"},
    }
    server = LiveServer(Settings.model_validate(settings))
    await server.start()
    try:
        await server.ready()
        socket = await Socket.open(server)
        await socket.start(format="wav")
        await socket.send((DATA / "speech" / "jfk.wav").read_bytes())
        await socket.send({"type": "flush"})
        said = []
        while wrong_words(" ".join(said), JFK) > 3:
            data = (await socket.message_of("transcription_result", timeout_s=40))["data"]
            if data["final"]:
                said.append(data["inputTranscription"] or "")
        await socket.send({"type": "end_session"})
        await socket.message_of("session_ended")
        socket.close()
        await socket.closed()
    finally:
        await server.stop()
