"""The main job in a real browser: what is spoken into its microphone becomes words on a page."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess

import pytest
from browser import Browser
from support import DATA, JFK, wrong_words
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, StaticFileHandler

from tornado_live.app import LiveServer
from tornado_live.settings import Settings

pytestmark = pytest.mark.slow

SPOKEN_S = 11.0


@pytest.fixture
def microphone(tmp_path):
    """jfk at 48 kHz, which every Chromium takes."""
    path = tmp_path / "jfk48k.wav"
    source = DATA / "speech" / "jfk.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-ar", "48000", path], check=True, timeout=20)
    return path


@pytest.fixture
def browser(io_loop, microphone):
    browser = io_loop.run_sync(lambda: Browser.launch(microphone))
    yield browser
    io_loop.run_sync(browser.close)


@pytest.fixture
def offline_server(io_loop):
    """What `tornado-live serve` starts where there is no key."""
    server = LiveServer(
        Settings.model_validate({"server": {"host": "127.0.0.1", "port": 0}, "store": {"path": ":memory:"}})
    )
    io_loop.run_sync(server.start)
    io_loop.run_sync(server.ready)
    yield server
    io_loop.run_sync(server.stop, timeout=20)


@pytest.fixture
def frontend(io_loop):
    """The address of a page that does what the existing frontend does, from an origin of its own."""
    socket, port = bind_unused_port("localhost")
    pages = Application(
        [(r"/()", StaticFileHandler, {"path": str(DATA / "frontend"), "default_filename": "index.html"})]
    )
    server = HTTPServer(pages)
    server.add_socket(socket)
    yield f"http://localhost:{port}"
    server.stop()


@pytest.mark.gen_test(timeout=60)
async def test_the_page_shows_what_the_microphone_hears(offline_server, browser, tmp_path):
    page = await browser.open(f"http://127.0.0.1:{offline_server.port}/", width=1200, height=760)
    await page.until("document.getElementById('status').textContent === 'Connected'")
    assert "offline demo engine" in await page.text("#engine")
    await page.click("#mic")
    await page.until("document.querySelector('#turns .user.interim')", 20)
    await page.until(f"performance.now() - (globalThis.began ??= performance.now()) > {SPOKEN_S * 1000}", 20)
    await page.click("#mic")
    await page.until("[...document.querySelectorAll('#turns li')].at(-1).matches('.model:not(.interim)')", 20)
    said = await page.evaluate(
        "[...document.querySelectorAll('#turns .user')].map((turn) => turn.textContent).join(' ')"
    )
    assert wrong_words(said, JFK) <= 4, said
    assert page.problems == []
    picture = await page.screenshot()
    assert struct.unpack(">II", picture[16:24]) == (1200, 760)
    (tmp_path / "page.png").write_bytes(picture)


class Network:
    """A way to a server that can be cut: every connection through it is dropped, new ones go through."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        await asyncio.gather(_pump(reader, back), _pump(onward, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@pytest.mark.gen_test(timeout=60)
async def test_a_network_that_drops_twice_costs_no_word(offline_server, browser):
    network = Network(offline_server.port)
    await network.open()
    page = await browser.open(f"http://127.0.0.1:{network.port}/")
    await page.until("document.getElementById('status').textContent === 'Connected'")
    await page.click("#mic")
    for after_s in (2, 8, SPOKEN_S):
        await page.until(
            f"performance.now() - (globalThis.began ??= performance.now()) > {after_s * 1000}", 20
        )
        network.cut()
    await page.click("#mic")
    await page.until("[...document.querySelectorAll('#turns li')].at(-1).matches('.model:not(.interim)')", 20)
    said = await page.evaluate(
        "[...document.querySelectorAll('#turns .user')].map((turn) => turn.textContent).join(' ')"
    )
    assert wrong_words(said, JFK) <= 4, said
    await network.close()


@pytest.mark.gen_test(timeout=60)
async def test_the_existing_frontend_shows_every_word(make_server, real_ears, browser, frontend):
    """Another origin, chunks of a second posted without waiting, texts read at the top level."""
    server = await make_server(real_ears, cors={"origins": [frontend]})
    page = await browser.open(f"{frontend}/?api=http://localhost:{server.port}")
    await page.until("document.getElementById('status').textContent === 'connected'")
    await page.click("#record")
    await page.until(f"performance.now() - (globalThis.began ??= performance.now()) > {SPOKEN_S * 1000}", 20)
    await page.click("#record")
    await page.until("document.getElementById('status').textContent.endsWith('ended')", 30)
    said = await page.text("#transcript")
    assert wrong_words(said, JFK) <= 4, said
    assert await page.text("#response")
    assert await page.text("#status") == "connected ended"
    assert page.problems == []
