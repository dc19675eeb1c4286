"""Streaming a recording to a server, against one that counts what it hears."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from pathlib import Path

import pytest
from fake_live_server import Script, make_app
from support import until

from tornado_live.audio import StreamFormat
from tornado_live.client import ClientError, LiveClient
from tornado_live.client.meter import DecodingMeter
from tornado_live.client.transcribe import Exchange, Transcript, transcribe
from tornado_live.plugins import CodecRegistry

DATA = Path(__file__).parent / "data"
SECOND_OF_PCM = bytes(32_000)


class PcmMeter:
    """16 kHz, 16 bit, mono."""

    def seconds(self, chunk: bytes) -> float:
        return len(chunk) / 32_000


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def app(script):
    return make_app(script)


@pytest.fixture
def live(io_loop, http_server, base_url):
    client = io_loop.run_sync(lambda: LiveClient.connect(base_url))
    yield client
    io_loop.run_sync(client.close)


@pytest.mark.gen_test(timeout=20)
async def test_every_byte_arrives_and_the_last_words_are_waited_for(live, script):
    recording = bytes(range(256)) * 64
    transcript = await transcribe(io.BytesIO(recording), live, {"format": "pcm"}, PcmMeter())
    assert bytes(script.audio) == recording
    assert transcript.text == f"{len(recording)} bytes"
    assert transcript.exchanges[0].reply == "You spoke."
    assert transcript.audio_s == pytest.approx(len(recording) / 32_000, abs=0.001)
    assert [kind for kind in script.journal if kind != "audio"] == [
        "hello", "start_session", "flush", "end_session"
    ]  # fmt: skip


@pytest.mark.gen_test(timeout=20)
async def test_exchanges_of_one_recording_are_joined_in_order(live, script):
    script.utterances = [10_000]
    transcript = await transcribe(io.BytesIO(SECOND_OF_PCM), live, {}, PcmMeter())
    assert len(transcript.exchanges) == 2
    first, second = (int(exchange.text.split()[0]) for exchange in transcript.exchanges)
    assert first + second == len(SECOND_OF_PCM)
    assert transcript.text == f"{first} bytes {second} bytes"


@pytest.mark.gen_test(timeout=20)
async def test_interim_texts_and_progress_are_shown_on_the_way(live):
    updates = []
    await transcribe(io.BytesIO(SECOND_OF_PCM), live, {}, PcmMeter(), on_update=updates.append)
    assert [update.sent_bytes for update in updates] == sorted(update.sent_bytes for update in updates)
    assert updates[-1].sent_bytes == len(SECOND_OF_PCM)
    assert any(not exchange.final for update in updates for exchange in update.exchanges)


@pytest.mark.gen_test(timeout=20)
async def test_audio_is_sent_at_the_pace_of_its_sound(live, script):
    arrivals = []
    began_at = time.monotonic()
    await transcribe(
        io.BytesIO(SECOND_OF_PCM),
        live,
        {},
        PcmMeter(),
        on_update=lambda update: arrivals.append((update.sent_bytes, time.monotonic() - began_at)),
    )
    last_sent_after_s = min(after_s for sent, after_s in arrivals if sent == len(SECOND_OF_PCM))
    assert 0.7 <= last_sent_after_s <= 1.5


@pytest.mark.gen_test(timeout=20)
async def test_fast_sends_a_burst_without_waiting(live, script):
    arrivals = []
    began_at = time.monotonic()
    await transcribe(
        io.BytesIO(SECOND_OF_PCM * 20),
        live,
        {},
        PcmMeter(),
        fast=True,
        on_update=lambda update: arrivals.append((update.sent_bytes, time.monotonic() - began_at)),
    )
    assert min(after_s for sent, after_s in arrivals if sent == len(SECOND_OF_PCM) * 20) < 2


@pytest.mark.gen_test
async def test_a_refusal_stops_the_sending_at_once(live, script):
    script.refuse_audio = {
        "type": "error",
        "code": "unsupported_audio",
        "error": "The server takes webm, wav.",
    }
    began_at = time.monotonic()
    with pytest.raises(ClientError, match="The server takes webm, wav") as failure:
        await transcribe(io.BytesIO(SECOND_OF_PCM * 60), live, {}, PcmMeter())
    assert failure.value.code == "unsupported_audio"
    assert time.monotonic() - began_at < 2


@pytest.mark.gen_test
async def test_a_lost_connection_is_an_error_and_not_a_short_transcript(live, script):
    script.cut_after_bytes = 5000
    with pytest.raises(ClientError) as failure:
        await transcribe(io.BytesIO(SECOND_OF_PCM * 60), live, {}, PcmMeter())
    assert failure.value.code == "connection_lost"


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "wb", buffering=0) as writer:
        yield reader, writer


@pytest.mark.gen_test(timeout=20)
async def test_a_live_source_is_passed_on_as_it_comes(live, script, pipe):
    """A pipe that gives a little and then nothing for a while must not hold back the little."""
    reader, writer = pipe
    job = asyncio.ensure_future(transcribe(reader, live, {}, PcmMeter()))
    writer.write(b"ab")
    await until(lambda: bytes(script.audio) == b"ab")
    writer.write(b"cd")
    writer.close()
    await job
    assert bytes(script.audio) == b"abcd"


@pytest.mark.parametrize(
    ("name", "label", "seconds"),
    [("speech/jfk.wav", "wav", 11.0), ("recordings/webm_opus_250ms", "webm", 12.3)],
)
def test_a_recording_is_measured_whatever_its_container(name, label, seconds):
    path = DATA / name
    files = sorted(path.glob("*.bin")) if path.is_dir() else [path]
    recording = io.BytesIO(b"".join(file.read_bytes() for file in files))
    meter = DecodingMeter(CodecRegistry.load(), StreamFormat(label=label))
    measured = sum(meter.seconds(chunk) for chunk in iter(lambda: recording.read(997), b""))
    assert measured == pytest.approx(seconds, abs=0.5)


def test_what_cannot_be_decoded_lasts_no_time():
    meter = DecodingMeter(CodecRegistry.load(), StreamFormat(label="webm"))
    assert meter.seconds(b"this is no recording" * 1000) == 0
    assert meter.seconds(b"neither is this") == 0


def test_the_json_object_holds_text_and_exchanges():
    transcript = Transcript(
        "s", "m", 1.5, (Exchange("t1", "Hello.", "Hi.", True), Exchange("t2", "", "", True))
    )
    assert json.loads(json.dumps(transcript.as_json())) == {
        "text": "Hello.",
        "session_id": "s",
        "model": "m",
        "audio_s": 1.5,
        "exchanges": [
            {"turn_id": "t1", "text": "Hello.", "reply": "Hi.", "final": True},
            {"turn_id": "t2", "text": "", "reply": "", "final": True},
        ],
    }
