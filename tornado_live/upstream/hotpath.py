"""The two messages that make up nearly all traffic, encoded and parsed without the SDK.

The SDK spends 125 µs on a 40 ms piece of speech; these need a fifth of it. Only messages of exactly
the known shape are taken; every other one, and everything that Google may add, goes through the SDK, so a
change of the protocol costs speed and never data.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import msgspec
import pybase64
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Data

from tornado_live.audio import TARGET
from tornado_live.upstream.base import AudioDelta, ConnectionEvent, InputTranscript, OutputTranscript

_PREFIX = b'{"realtime_input":{"audio":{"data":"'
_SUFFIX = b'","mime_type":"audio/pcm;rate=%d"}}}' % TARGET.rate_hz
_SPEECH_TYPES = ("audio/pcm;rate=24000", "audio/pcm")


def encode_audio(pcm: bytes) -> bytes:
    """The text message that carries these `TARGET` samples."""
    return b"".join((_PREFIX, pybase64.b64encode(pcm), _SUFFIX))


class _Exact(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """A message with these fields and no others."""


class _Blob(_Exact):
    mime_type: str
    data: str


class _Part(_Exact):
    inline_data: _Blob


class _ModelTurn(_Exact):
    parts: list[_Part]
    role: str = "model"


class _Transcription(_Exact):
    text: str


class _ServerContent(_Exact):
    model_turn: _ModelTurn | None = None
    input_transcription: _Transcription | None = None
    output_transcription: _Transcription | None = None


class _ServerMessage(_Exact):
    server_content: _ServerContent


_decoder = msgspec.json.Decoder(_ServerMessage)


def parse(raw: bytes) -> list[ConnectionEvent] | None:
    """The events of a message of model audio and transcriptions; None: leave it to the SDK."""
    try:
        content = _decoder.decode(raw).server_content
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    events: list[ConnectionEvent] = []
    if content.model_turn is not None:
        for part in content.model_turn.parts:
            blob = part.inline_data
            if blob.mime_type not in _SPEECH_TYPES:
                return None
            try:
                events.append(AudioDelta(pybase64.b64decode(blob.data, validate=True)))
            except ValueError:  # the URL-safe alphabet, which the SDK knows too
                return None
    if content.input_transcription is not None and content.input_transcription.text:
        events.append(InputTranscript(content.input_transcription.text))
    if content.output_transcription is not None and content.output_transcription.text:
        events.append(OutputTranscript(content.output_transcription.text))
    return events


class Wire(ClientConnection):
    """The SDK's WebSocket, which the SDK makes through websockets' `create_connection` parameter.

    It hands itself over by `handed_over`, a context variable: the SDK has no other public way to it.
    It is never redirected: websockets would take the API key along to any other host.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._returned: bytes | None = None
        handed_over.set(self)

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """Raises InvalidStatus where the server answers with a redirect, as with any other refusal."""
        try:
            await super().handshake(*args, **kwargs)
        except InvalidStatus as refusal:
            # websockets follows where there is a Location, and has no setting against it.
            if "Location" in refusal.response.headers:
                del refusal.response.headers["Location"]
            raise

    async def recv(self, decode: bool | None = None) -> Data:  # type: ignore[override]
        """The message that was put back, if there is one, else the next."""
        if self._returned is not None:
            raw, self._returned = self._returned, None
            return raw
        return await super().recv(decode)

    def put_back(self, raw: bytes) -> None:
        """Makes `raw` the next message that `recv` returns."""
        self._returned = raw


handed_over: ContextVar[Wire | None] = ContextVar("handed_over", default=None)
"""The newest WebSocket made in this task."""
