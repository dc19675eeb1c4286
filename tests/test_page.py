"""The page at `/` in a real browser, against a server that says what it received."""

from __future__ import annotations

import io
import time
import wave

import pytest
from browser import Browser
from fake_live_server import Script, cut, make_app
from support import until

from tornado_live.audio import StreamFormat
from tornado_live.client.meter import DecodingMeter
from tornado_live.plugins import CodecRegistry

pytestmark = pytest.mark.slow

WEBM_HEADER = b"\x1a\x45\xdf\xa3"
CONNECTED = "document.getElementById('status')?.textContent === 'Connected'"
# Counts the replies that are played.
COUNT_PLAYS = """
    globalThis.plays = 0;
    const start = AudioBufferSourceNode.prototype.start;
    AudioBufferSourceNode.prototype.start = function (...args) { plays++; return start.apply(this, args); };
"""


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def app(script):
    return make_app(script)


@pytest.fixture
def microphone():
    return None


@pytest.fixture
def browser(io_loop, microphone):
    browser = io_loop.run_sync(lambda: Browser.launch(microphone))
    yield browser
    io_loop.run_sync(browser.close)


@pytest.fixture
def page(io_loop, http_server, base_url, browser):
    return io_loop.run_sync(lambda: browser.open(base_url + "/"))


def turns(count: int) -> str:
    return f"document.querySelectorAll('#turns li:not(.interim)').length === {count}"


def beep() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(24_000)
        wav.writeframes(b"\x00\x10\x00\xf0" * 1200)
    return file.getvalue()


@pytest.mark.gen_test(timeout=30)
async def test_it_tells_who_answers_and_the_strict_policy_forbids_nothing(page):
    await page.until(CONNECTED)
    assert await page.text("#engine") == "offline demo engine"
    assert await page.text("#empty") == "Press the microphone and speak, or type."
    assert page.problems == []


@pytest.mark.gen_test(timeout=30)
async def test_a_typed_turn_is_answered(page, script):
    await page.until(CONNECTED)
    await page.click("#text")
    await page.type("How are you?\n")
    await page.until(turns(2))
    assert await page.text("#turns .user") == "How are you?"
    assert await page.text("#turns .model") == "You wrote: How are you?"
    assert script.journal == ["hello", "start_session", "text"]


@pytest.mark.gen_test(timeout=30)
async def test_what_comes_from_a_server_is_shown_as_text(page):
    await page.until(CONNECTED)
    await page.click("#text")
    await page.type("<img src=x onerror=alert(1)>\n")
    await page.until(turns(2))
    assert await page.text("#turns .user") == "<img src=x onerror=alert(1)>"
    assert await page.evaluate("document.querySelectorAll('#turns img').length") == 0


@pytest.mark.gen_test(timeout=40)
async def test_everything_said_before_the_recorder_stops_arrives(page, script):
    await page.until(CONNECTED)
    await page.click("#mic")
    await page.until("document.querySelector('#turns .user.interim')")
    began_at = time.monotonic()
    already = len(script.audio)
    await until(lambda: time.monotonic() - began_at > 2)
    await page.click("#mic")
    spoken_s = time.monotonic() - began_at
    await page.until(turns(2))
    assert bytes(script.audio[:4]) == WEBM_HEADER
    assert script.journal[:2] == ["hello", "start_session"]
    assert script.journal[-2:] == ["audio_chunk", "flush"]
    assert await page.text("#turns .user") == f"{len(script.audio)} bytes"
    meter = DecodingMeter(CodecRegistry.load(), StreamFormat("webm"))
    meter.seconds(bytes(script.audio[:already]))
    assert meter.seconds(bytes(script.audio[already:])) == pytest.approx(spoken_s, abs=0.35)


@pytest.mark.gen_test(timeout=40)
async def test_a_second_recording_goes_into_the_same_session(page, script):
    await page.until(CONNECTED)
    for count in (2, 4):
        await page.click("#mic")
        await page.until("document.querySelector('#turns .user.interim')")
        await page.click("#mic")
        await page.until(turns(count))
    assert len(script.sessions) == 1
    assert bytes(script.audio).count(WEBM_HEADER) == 2


@pytest.mark.gen_test(timeout=40)
async def test_a_lost_connection_loses_neither_chunks_nor_messages(page, script):
    """The recorder goes on; what was in flight is sent again, and counted once."""
    await page.until(CONNECTED)
    script.cut_after_bytes = 2000
    await page.click("#mic")
    await until(lambda: "resume" in script.journal, 10)
    await until(lambda: len(script.audio) > 5000, 10)
    await page.click("#mic")
    await page.until(turns(2))
    assert await page.text("#turns .user") == f"{len(script.audio)} bytes"
    assert bytes(script.audio).count(WEBM_HEADER) == 1
    numbers = [message["seq"] for message in script.messages if message["type"] == "audio_chunk"]
    assert sorted(set(numbers)) == list(range(numbers[-1] + 1))
    meter = DecodingMeter(CodecRegistry.load(), StreamFormat("webm"))
    assert meter.seconds(bytes(script.audio)) == pytest.approx(0.3 * len(set(numbers)), abs=0.5)
    assert await page.evaluate("document.getElementById('alert').hidden")


@pytest.mark.gen_test(timeout=40)
async def test_a_server_that_cannot_resume_is_started_anew_under_the_same_id(page, script):
    await page.until(CONNECTED)
    script.refuse_resume = True
    await page.click("#text")
    await page.type("One\n")
    await page.until(turns(2))
    cut(script.sockets[0])
    script.start_time = "2026-01-01T00:01:00.000Z"
    script.sessions.clear()
    await until(lambda: script.journal.count("start_session") == 2, 10)
    await page.type("Two\n")
    await page.until(turns(4))
    assert list(script.sessions) == ["session_1"]
    assert await page.evaluate("document.getElementById('alert').hidden")


@pytest.mark.gen_test(timeout=30)
async def test_a_server_that_has_gone_is_said_and_can_be_dialled_by_hand(page, script, http_server):
    await page.until(CONNECTED)
    http_server.stop()
    cut(script.sockets[0])
    await page.until("document.getElementById('status').dataset.state === 'waiting'")
    assert await page.text("#problem") == "The connection to the server is lost."
    assert await page.text("#reconnect") == "Reconnect"


@pytest.mark.gen_test(timeout=30)
async def test_an_error_is_shown_in_the_servers_words(page, script):
    script.refuse_start = {
        "type": "error",
        "code": "too_many_sessions",
        "error": "The server is full; try again.",
    }
    await page.until(CONNECTED)
    await page.click("#mic")
    await page.until("!document.getElementById('alert').hidden")
    assert await page.text("#problem") == "The server is full; try again."
    await page.until("document.getElementById('mic').getAttribute('aria-pressed') === 'false'")


@pytest.mark.parametrize(
    ("microphone", "words"),
    [
        ("refused", "The browser does not let this page use the microphone."),
        ("none", "No microphone was found."),
    ],
)
@pytest.mark.gen_test(timeout=30)
async def test_a_microphone_that_is_not_to_be_had_is_explained(page, script, words):
    await page.until(CONNECTED)
    await page.click("#mic")
    await page.until("!document.getElementById('alert').hidden")
    assert (await page.text("#problem")).startswith(words)
    assert not script.sessions


@pytest.mark.gen_test(timeout=30)
async def test_a_key_is_asked_for_only_where_one_is_needed(page, script, base_url):
    assert await page.evaluate("document.getElementById('key-form').hidden")
    script.key = "ak_right"
    await page.call("Page.reload")
    await page.until("document.getElementById('key-form')?.hidden === false")
    await page.type("ak_wrong\n")
    await page.until("document.getElementById('problem').textContent === 'The key or token is not valid.'")
    await page.type("ak_right\n")
    await page.until("document.getElementById('key-form').hidden && document.getElementById('alert').hidden")
    await page.click("#text")
    await page.type("Hello\n")
    await page.until(turns(2))


@pytest.mark.gen_test(timeout=30)
async def test_a_spoken_reply_is_played_once(page, script):
    script.audio_reply = beep()
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=COUNT_PLAYS)
    await page.call("Page.reload")
    await page.until(f"globalThis.plays === 0 && {CONNECTED}")
    await page.evaluate("document.getElementById('modality').value = 'audio'")
    await page.click("#text")
    await page.type("Hello\n")
    await page.until("plays === 1")
    assert script.messages[-2]["response_modality"] == "audio"


@pytest.mark.gen_test(timeout=30)
async def test_another_choice_of_answers_begins_another_conversation(page, script):
    await page.until(CONNECTED)
    await page.click("#text")
    await page.type("Hello\n")
    await page.until(turns(2))
    await page.click("#new")
    await until(lambda: script.journal[-1] == "end_session")
    assert await page.evaluate("document.getElementById('turns').childElementCount") == 0
    await page.click("#text")
    await page.type("Again\n")
    await page.until(turns(2))
    assert "session_id" not in script.messages[-2]


@pytest.mark.gen_test(timeout=30)
async def test_the_keyboard_reaches_and_works_everything(page, script):
    await page.until(CONNECTED)
    reached = []
    for _ in range(5):
        await page.key("Tab")
        reached.append(await page.evaluate("document.activeElement.id"))
        if reached[-1] == "mic":
            await page.key(" ", " ")
            await page.until("document.getElementById('mic').getAttribute('aria-pressed') === 'true'")
            await page.key(" ", " ")
            await page.until("document.getElementById('mic').getAttribute('aria-pressed') === 'false'")
    assert reached == ["mic", "text", "send", "modality", "model"]


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.gen_test(timeout=30)
async def test_nothing_sticks_out_of_the_window(page, width):
    await page.resize(width, 640)
    await page.until(CONNECTED)
    await page.click("#text")
    await page.type("A" * 200 + "\n")
    await page.until(turns(2))
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
