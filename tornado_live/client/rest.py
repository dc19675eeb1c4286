"""The REST client: the calls below `/api/v1/live-audio`."""

from __future__ import annotations

import base64
import json
from types import TracebackType
from typing import Self, Unpack
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from tornado_live.client.base import DEFAULT_URL, ClientError, Message, StartOptions, server_address

_PATH = "/api/v1/live-audio"
_TIMEOUT_S = 60.0
# A one-shot may hold 15 minutes of speech, all of which is recognised before the answer.
_ONE_SHOT_TIMEOUT_S = 1200.0
# `transcribe` calls of one session overlap: the newest waits for its words while older ones finish.
_MAX_CONNECTIONS = 64


class RestClient:
    """Calls a server's REST interface. Every call returns the answer's whole JSON body.

    Every call raises ClientError with the server's `code` where it refuses, `cannot_connect` where
    it cannot be reached, `bad_answer` where the answer is not JSON.
    """

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None) -> None:
        self._url = url
        self._base = server_address(url, "http", _PATH)
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["X-API-Key"] = api_key
        self._http = AsyncHTTPClient(force_instance=True, max_clients=_MAX_CONNECTIONS)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def sessions(self) -> Message:
        """The caller's sessions that have not ended: `data.sessions`, `data.count`."""
        return await self._call("GET", "/sessions")

    async def start(self, **options: Unpack[StartOptions]) -> Message:
        """Starts a session: `session_id`, `data.status`, …"""
        return await self._call("POST", "/session/start", dict(options))

    async def transcribe(
        self,
        audio: bytes,
        *,
        session_id: str | None = None,
        format: str = "webm",
        sample_rate: int = 16_000,
        channels: int = 1,
        seq: int | None = None,
    ) -> Message:
        """Sends one chunk of a session's recording, or, without `session_id`, a whole recording.

        The texts of a session's answers (`inputTranscription`, `response`) are what is new since the
        answer before: joined in order they are the whole.

        Args:
            audio: the next bytes of the recording, cut anywhere.
            sample_rate: samples a second; counts for headerless PCM only, as `channels` does.
            seq: the chunk's number from 0, which makes the order certain when calls overlap.
        """
        body: Message = {
            "audio_data": base64.b64encode(audio).decode("ascii"),
            "format": format,
            "sample_rate": sample_rate,
            "channels": channels,
        }
        if session_id is not None:
            body["session_id"] = session_id
        if seq is not None:
            body["seq"] = seq
        timeout_s = _ONE_SHOT_TIMEOUT_S if session_id is None else _TIMEOUT_S
        return await self._call("POST", "/transcribe", body, timeout_s)

    async def end(self, session_id: str) -> Message:
        """Ends a session: `data.status`, `data.endTime`, `data.duration` (ms), and its last texts."""
        return await self._call("POST", "/session/end", {"session_id": session_id})

    async def status(self, session_id: str) -> Message:
        """`data.status`, `data.startTime`, `data.lastActivity`, …, of a session, ended or not."""
        return await self._call("GET", f"/session/{quote(session_id, safe='')}/status")

    async def _call(
        self, method: str, path: str, body: Message | None = None, timeout_s: float = _TIMEOUT_S
    ) -> Message:
        request = HTTPRequest(
            self._base + path,
            method=method,
            headers=self._headers,
            body=None if body is None else json.dumps(body),
            request_timeout=timeout_s,
        )
        try:
            response = await self._http.fetch(request, raise_error=False)
        except (OSError, HTTPClientError) as error:
            raise ClientError("cannot_connect", f"No tornado-live server answers at {self._url}.") from error
        try:
            answer = json.loads(response.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError("bad_answer", f"The server answered {response.code} without a JSON object.")
        if not 200 <= response.code < 300:
            raise ClientError(
                str(answer.get("code", response.code)),
                str(answer.get("error", f"The server answered {response.code}.")),
            )
        return answer
