"""The main job on real input: a browser's recording becomes its words, over real sockets."""

from __future__ import annotations

import asyncio
import random
import subprocess

import pytest
from support import DATA, JFK, Socket, api, b64, chunks, words, wrong_words

from tornado_live.app import LiveServer

pytestmark = pytest.mark.slow

SESSION = "session_1700000000000_abcdefghi"


async def spoken(socket: Socket) -> str:
    """What the user said in all exchanges, once the session has ended."""
    await socket.message_of("session_ended", timeout_s=30)
    finals = [m["data"] for m in socket.seen if m["type"] == "transcription_result" and m["data"]["final"]]
    assert len({data["turnId"] for data in finals}) == len(finals)
    return " ".join(data["inputTranscription"] or "" for data in finals)


async def post_all(server: LiveServer, pieces: list[bytes], *, every_s: float) -> list[dict]:
    """Posts every chunk by itself, not waiting for the answer to the one before, as the frontend does."""
    await api(server, "/session/start", {"session_id": SESSION, "response_modality": "text"})
    posts = []
    for piece in pieces:
        body = {
            "session_id": SESSION,
            "audio_data": b64(piece),
            "format": "webm",
            "sample_rate": 16000,
            "channels": 1,
        }
        posts.append(asyncio.create_task(api(server, "/transcribe", body)))
        await asyncio.sleep(every_s)
    return [body for _, body in await asyncio.gather(*posts)]


@pytest.mark.gen_test
@pytest.mark.parametrize("every_s", [1.0, 0.02], ids=["real time", "at once"])
async def test_rest_chunks_give_every_word_once(make_server, real_ears, every_s):
    server = await make_server(real_ears)
    answers = await post_all(server, chunks("webm_opus_1000ms"), every_s=every_s)
    assert all(answer["success"] for answer in answers)
    shown = "".join(answer.get("transcript") or answer["inputTranscription"] or "" for answer in answers)
    _, end = await api(server, "/session/end", {"session_id": SESSION})
    assert end["data"]["inputTranscription"] is None
    _, transcript = await api(server, f"/session/{SESSION}/transcript")
    committed = " ".join(t["text"] for t in transcript["data"]["turns"] if t["role"] == "user")
    assert words(shown) == words(committed)
    assert wrong_words(shown, JFK) <= 3, shown
    assert any(answer["response"] for answer in answers)


@pytest.mark.gen_test
@pytest.mark.parametrize("recording", ["webm_opus_250ms", "ff_webm_opus_250ms"])
async def test_websocket_chunks_give_the_words(make_server, real_ears, connect, recording):
    server = await make_server(real_ears)
    socket = await connect(server)
    await socket.start()
    for piece in chunks(recording):
        await socket.send({"type": "audio_chunk", "audio_data": b64(piece), "format": "webm"})
    await socket.send({"type": "end_session"})
    said = await spoken(socket)
    assert wrong_words(said, JFK) <= 4, said


@pytest.mark.gen_test
async def test_pcm_from_a_worklet_gives_the_words(make_server, real_ears, connect):
    server = await make_server(real_ears)
    socket = await connect(server)
    await socket.start(format="pcm", sample_rate=48000, channels=1)
    await socket.send({"type": "hello", "binary": True})
    for piece in chunks("pcm_s16le_48k_250ms"):
        await socket.send(piece)
    await socket.send({"type": "end_session"})
    said = await spoken(socket)
    assert wrong_words(said, JFK) <= 4, said


@pytest.mark.gen_test
@pytest.mark.parametrize("session_id", [None, "", "default"])
async def test_a_whole_wav_is_one_utterance(make_server, real_ears, session_id):
    server = await make_server(real_ears)
    audio = (DATA / "speech" / "jfk.wav").read_bytes()
    body = {"session_id": session_id, "audio_data": "data:audio/wav;base64," + b64(audio), "format": "wav"}
    status, answer = await api(server, "/transcribe", body)
    assert status == 200
    assert wrong_words(answer["inputTranscription"], JFK) <= 3, answer["inputTranscription"]
    assert answer["response"]
    assert "transcript" not in answer
    assert (await api(server, "/sessions"))[1]["data"]["count"] == 0


WORDS = (
    "apple bridge candle doctor engine forest garden hammer island jacket kitchen ladder mountain needle "
    "orange pencil quarter river silver table umbrella village window yellow"
).split()


@pytest.fixture
def spoken_nouns(tmp_path):
    """Nouns that were chosen now, and eSpeak saying them in two sentences."""
    nouns = random.sample(WORDS, 5)
    text = "I saw the {} and the {} near the {}. Then the {} came to the {}.".format(*nouns)
    path = tmp_path / "random.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "120", "-w", path, text], check=True, timeout=20)
    return nouns, path.read_bytes()


@pytest.mark.gen_test
async def test_random_words_are_recognised(make_server, real_ears, spoken_nouns):
    """Nothing but recognition can know them."""
    nouns, audio = spoken_nouns
    server = await make_server(real_ears)
    _, answer = await api(server, "/transcribe", {"audio_data": b64(audio), "format": "wav"})
    heard = words(answer["inputTranscription"] or "")
    assert sum(noun in heard for noun in nouns) >= 3, f"{nouns} were heard as {heard}"


@pytest.mark.gen_test
async def test_status_and_transcript_survive_a_restart(make_server, real_ears, tmp_path):
    store = str(tmp_path / "store.sqlite3")
    first = await make_server(real_ears, store)
    await post_all(first, chunks("webm_opus_1000ms"), every_s=0.02)
    _, before = await api(first, f"/session/{SESSION}/transcript")
    await first.stop()
    second = await make_server(real_ears, store)
    status, body = await api(second, f"/session/{SESSION}/status")
    assert (status, body["data"]["sessionId"]) == (200, SESSION)
    _, after = await api(second, f"/session/{SESSION}/transcript")
    assert after["data"]["turns"][: len(before["data"]["turns"])] == before["data"]["turns"]
    assert words(after["data"]["turns"][0]["text"])
