"""The WebSocket client: one connection, one session at a time, audio up as binary frames."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

from tornado_live.client.base import DEFAULT_URL, ClientError, Message, StartOptions, server_address

_PATH = "/ws/live-audio"
_ANSWER_TIMEOUT_S = 15.0
_CLOSE_TIMEOUT_S = 5.0
# A whole reply comes as base64 in one message: ten minutes of it fit.
_MAX_MESSAGE_BYTES = 64 * 2**20


class LiveClient:
    """A connection to a server's `/ws/live-audio`. Make it with `connect`, use it as a context manager.

        async with await LiveClient.connect() as live:
            await live.start(format="webm")
            await live.send_audio(chunk)
            await live.flush()
            async for message in live:
                print(message["type"], message.get("data"))

    Messages must be read while audio is sent: a connection that nobody reads stops answering pings,
    and the server closes it. Sending and iterating may run in two tasks; `start` may not run while
    another task iterates.

    Attributes:
        server: `data` of the server's `connected` message: engine, formats, limits, …
        session_id: the session that `start` opened; None before.
    """

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self._unread: deque[Message] = deque()
        self._lost = False
        self.server: Message = {}
        self.session_id: str | None = None

    @classmethod
    async def connect(cls, url: str = DEFAULT_URL, api_key: str | None = None) -> Self:
        """Connects, says hello and, with a key, authenticates.

        Args:
            url: the server's address, `http://localhost:3000`; ws, wss and https work too.

        Raises:
            ClientError: `bad_address`, `cannot_connect`, or why the server refuses (`auth_failed`, …).
        """
        address = server_address(url, "ws", _PATH)
        try:
            connection = await websocket_connect(
                HTTPRequest(address, connect_timeout=_ANSWER_TIMEOUT_S), max_message_size=_MAX_MESSAGE_BYTES
            )
        except HTTPClientError as error:
            raise ClientError(
                "cannot_connect", f"The server at {url} refuses the connection: {error.message}."
            ) from error
        except (OSError, WebSocketError) as error:
            raise ClientError("cannot_connect", f"No tornado-live server answers at {url}.") from error
        client = cls(connection)
        try:
            await client._send({"type": "hello", "version": 1, "binary": True})
            client.server = (await client._expect("connected")).get("data", {})
            if api_key:
                await client._send({"type": "auth", "token": api_key})
                await client._expect("auth_success")
        except BaseException:
            await client.close()
            raise
        return client

    async def start(self, **options: Unpack[StartOptions]) -> Message:
        """Starts a session and returns the whole `session_started` message.

        Raises:
            ClientError: why the server refuses, `no_answer`, or `connection_lost`.
        """
        await self._send({"type": "start_session", **options})
        started = await self._expect("session_started")
        self.session_id = started.get("session_id")
        return started

    async def send_audio(self, chunk: bytes) -> None:
        """Sends the next bytes of the recording, cut anywhere. Raises ClientError `connection_lost`."""
        await self._write(chunk, binary=True)

    async def send_text(self, text: str) -> None:
        """Sends a typed turn; the model answers it."""
        await self._send({"type": "text", "text": text})

    async def flush(self) -> None:
        """Says that the utterance is over: the server answers it now."""
        await self._send({"type": "flush"})

    async def end(self) -> None:
        """Ends the session. Its last texts and `session_ended` still come, and end the iteration."""
        await self._send({"type": "end_session"})

    async def close(self) -> None:
        """Closes the connection; the session stays until the server's own time for that is over."""
        self._connection.close(1000)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while not self._lost:
                    await self._read()
        except TimeoutError:
            pass  # the peer never closed its side; Tornado drops the socket by itself

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yields the server's messages, `error` among them, up to and with `session_ended`.

        Raises:
            ClientError: `connection_lost` when the connection closes before that.
        """
        while True:
            message = self._unread.popleft() if self._unread else await self._receive()
            yield message
            if message.get("type") == "session_ended":
                return

    async def _expect(self, kind: str) -> Message:
        """The next message of that type; what comes before it is kept for the iterator."""
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                while True:
                    message = await self._receive()
                    if message.get("type") == kind:
                        return message
                    if "error" in message:
                        raise _refusal(message)
                    self._unread.append(message)
        except TimeoutError:
            raise ClientError("no_answer", f"The server did not send {kind} in time.") from None

    async def _receive(self) -> Message:
        while True:
            frame = await self._read()
            if frame is None:
                raise _gone()
            if isinstance(frame, str):
                return _parse(frame)

    async def _read(self) -> str | bytes | None:
        """The next frame; None, once, when the connection is gone."""
        frame = await self._connection.read_message()
        self._lost = frame is None
        return frame

    async def _send(self, message: Message) -> None:
        await self._write(json.dumps(message), binary=False)

    async def _write(self, frame: str | bytes, *, binary: bool) -> None:
        try:
            await self._connection.write_message(frame, binary)
        except WebSocketClosedError:
            raise _gone() from None


def _gone() -> ClientError:
    return ClientError("connection_lost", "The connection to the server is gone.")


def _refusal(message: Message) -> ClientError:
    code = message.get("code") or message.get("type") or "error"
    return ClientError(str(code), str(message["error"]))


def _parse(frame: str) -> Message:
    try:
        message = json.loads(frame)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ClientError("bad_answer", "The server sent something that is not a JSON object.")
    return message
