"""A headless Chromium, driven through the DevTools protocol: pages, clicks, typing, pictures.

The microphone is fake and speaks a WAV file (48 kHz works in every version) once, from the moment
the page opens it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from support import until
from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0"
)
Microphone = Path | Literal["none", "refused"] | None


class Browser:
    """One Chromium process with an empty profile. Make it with `launch`, end it with `close`."""

    def __init__(
        self, process: subprocess.Popen[bytes], profile: str, socket: WebSocketClientConnection
    ) -> None:
        self._process = process
        self._profile = profile
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def launch(cls, microphone: Microphone = None) -> Browser:
        """Starts Chromium; its microphone speaks the WAV file, hums without one, or is not to be had."""
        profile = tempfile.mkdtemp(prefix="chromium-")
        process = _start(profile, microphone)
        address = await until(lambda: _debugger_address(profile), 20)
        return cls(process, profile, await websocket_connect(address, max_message_size=2**26))

    async def open(self, url: str, width: int = 1200, height: int = 800) -> Page:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        await page.call("Page.navigate", url=url)
        await page.until("document.readyState === 'complete'")
        return page

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.write_message(json.dumps(message))
        async with asyncio.timeout(20):
            answer = await self._answers[number]
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    async def close(self) -> None:
        self._process.terminate()
        await self._reader
        self._socket.close()
        await asyncio.to_thread(self._process.wait, 10)
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _read(self) -> None:
        while (frame := await self._socket.read_message()) is not None:
            message = json.loads(frame)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].on_event(message["method"], message["params"])


class Page:
    """One tab. `problems` collects what its console complains of: exceptions, refused resources, CSP."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.call(method, self._session, **params)

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str, timeout_s: float = 10.0) -> None:
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + timeout_s
        while not await self.evaluate(f"!!({condition})"):
            assert time.monotonic() < deadline, f"not true in time: {condition}; problems: {self.problems}"
            await asyncio.sleep(0.02)

    async def text(self, selector: str) -> str:
        """The text that a person sees there."""
        return await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    async def click(self, selector: str) -> None:
        """A real click in the middle of the element, as of a mouse."""
        box = await self.evaluate(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
            )

    async def type(self, text: str) -> None:
        """Types into what has the focus; a newline is the Enter key."""
        for part in text.splitlines(keepends=True):
            await self.call("Input.insertText", text=part.rstrip("\n"))
            if part.endswith("\n"):
                await self.key("Enter", "\r")

    async def key(self, name: str, text: str = "") -> None:
        code = {"Enter": 13, "Tab": 9, " ": 32}[name]
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, text=text, windowsVirtualKeyCode=code
            )

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def colours(self, scheme: str) -> None:
        """`dark` or `light`, as the system would ask for."""
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


def _start(profile: str, microphone: Microphone) -> subprocess.Popen[bytes]:
    assert CHROMIUM, "Chromium is not installed (Debian: apt-get install chromium)"
    flags = [*FLAGS.split(), f"--user-data-dir={profile}"]
    flags.append("--use-fake-ui-for-media-stream" + ("=deny" if microphone == "refused" else ""))
    if microphone != "none":
        flags.append("--use-fake-device-for-media-stream")
    if isinstance(microphone, Path):
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    return subprocess.Popen([CHROMIUM, *flags, "about:blank"], stderr=subprocess.DEVNULL)


def _debugger_address(profile: str) -> str | None:
    """Chromium writes its port and path into its profile when it is ready."""
    file = Path(profile, "DevToolsActivePort")
    port, _, path = file.read_text().partition("\n") if file.exists() else ("", "", "")
    return f"ws://127.0.0.1:{port}{path}" if path else None
