"""How long a recording is, found by decoding it with the codecs that the server uses."""

from __future__ import annotations

from tornado_live.audio import TARGET, AudioDecoder, DecodeLimits, StreamFormat
from tornado_live.errors import LiveError
from tornado_live.plugins import CodecRegistry


class DecodingMeter:
    """Measures any container that the installed codecs decode; the rest counts as no time at all.

    So a recording that cannot be measured is sent as fast as it is read, and what is wrong with it
    is the server's to say.
    """

    def __init__(self, codecs: CodecRegistry, declared: StreamFormat) -> None:
        self._codecs = codecs
        self._declared = declared
        self._head = b""
        self._decoder: AudioDecoder | None = None
        self._measurable = True

    def seconds(self, chunk: bytes) -> float:
        if not self._measurable:
            return 0.0
        try:
            return TARGET.seconds(len(self._decode(chunk)))
        except LiveError:
            self._measurable = False
            return 0.0

    def _decode(self, chunk: bytes) -> bytes:
        if self._decoder is None:
            self._head += chunk
            if not self._head:
                return b""
            codec = self._codecs.recognise(self._head, self._declared, ended=not chunk)
            if codec is None:
                return b""
            self._decoder = self._codecs.open(codec, self._declared, DecodeLimits())
            chunk = self._head
        return self._decoder.decode(chunk) if chunk else b""
