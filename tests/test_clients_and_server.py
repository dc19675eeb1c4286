"""The clients against the real server: what the fake server of their own tests cannot prove."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from browser import Browser
from support import DATA, JFK, chunks, wrong_words

from tornado_live.client import ClientError, LiveClient, RestClient

COMMAND = Path(sys.executable).with_name("tornado-live")
KEYS = {"mode": "keys", "keys": [{"name": "test", "secret": "ak_right_0123456789"}]}


def address(server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.mark.gen_test(timeout=20)
async def test_a_typed_turn_is_answered_over_the_websocket(server):
    async with await LiveClient.connect(address(server)) as live:
        assert "webm" in live.server["formats"]
        await live.start(session_id="typed", response_modality="text")
        await live.send_text("Good morning")
        texts = []
        async for message in live:
            if message["type"] == "transcription_result":
                texts.append(message["data"]["transcript"])
                if message["data"]["final"]:
                    await live.end()
        assert texts[-1]
        assert message["data"]["status"] == "ended"


@pytest.mark.gen_test(timeout=20)
async def test_a_session_lives_and_ends_over_rest(server):
    with RestClient(address(server)) as rest:
        started = await rest.start(session_id="by_rest", response_modality="text")
        assert started["session_id"] == "by_rest"
        assert (await rest.sessions())["data"]["count"] == 1
        assert (await rest.status("by_rest"))["data"]["status"] == "active"
        first, *_ = chunks("webm_opus_1000ms")
        assert (await rest.transcribe(first, session_id="by_rest", seq=0))["success"]
        assert (await rest.end("by_rest"))["data"]["status"] == "ended"
        assert (await rest.sessions())["data"]["count"] == 0


@pytest.mark.gen_test(timeout=20)
async def test_a_server_with_keys_takes_the_right_one_only(make_server, scripted_ears):
    url = address(await make_server(scripted_ears, auth=KEYS))
    async with await LiveClient.connect(url, "ak_right_0123456789") as live:
        await live.start()
    with RestClient(url, "ak_right_0123456789") as rest:
        assert (await rest.sessions())["data"]["count"] == 1
    for attempt in (
        LiveClient.connect(url, "ak_wrong_0123456789"),
        RestClient(url, "ak_wrong_0123456789").sessions(),
    ):
        with pytest.raises(ClientError) as failure:
            await attempt
        assert failure.value.code == "auth_failed"
    async with await LiveClient.connect(url) as live:
        with pytest.raises(ClientError) as failure:
            await live.start()
        assert failure.value.code == "auth_required"


@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_transcribe_prints_the_sentence_of_jfk(make_server, real_ears):
    server = await make_server(real_ears)
    arguments = [COMMAND, "transcribe", DATA / "speech" / "jfk.wav", "--url", address(server)]
    done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert wrong_words(done.stdout.decode(), JFK) <= 3, done.stdout


@pytest.fixture
def browser(io_loop):
    browser = io_loop.run_sync(Browser.launch)
    yield browser
    io_loop.run_sync(browser.close)


@pytest.mark.slow
@pytest.mark.gen_test(timeout=40)
async def test_the_page_asks_for_the_key_and_goes_on_with_it(make_server, scripted_ears, browser):
    server = await make_server(scripted_ears, auth=KEYS)
    page = await browser.open(address(server) + "/")
    await page.until("document.getElementById('status').textContent === 'Key needed'")
    await page.type("ak_wrong_0123456789\n")
    await page.until("document.getElementById('problem').textContent.includes('not valid')")
    await page.type("ak_right_0123456789\n")
    await page.until("document.getElementById('status').textContent === 'Connected'")
    await page.click("#text")
    await page.type("Good morning\n")
    await page.until("document.querySelector('#turns .model:not(.interim)')")
    assert await page.evaluate("document.getElementById('alert').hidden")


@pytest.mark.slow
@pytest.mark.gen_test(timeout=40)
async def test_the_page_speaks_where_answers_are_wanted_aloud(server, browser):
    page = await browser.open(address(server) + "/")
    await page.until("document.getElementById('status').textContent === 'Connected'")
    await page.evaluate(
        "AudioBufferSourceNode.prototype.start = function () { globalThis.playedS = this.buffer.duration; }"
    )
    await page.evaluate("document.getElementById('modality').value = 'audio'")
    await page.click("#text")
    await page.type("Good morning\n")
    await page.until("globalThis.playedS > 0.2", 20)
    assert page.problems == []
