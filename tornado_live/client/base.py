"""What the WebSocket client and the REST client share."""

from __future__ import annotations

from typing import Any, Literal, TypedDict
from urllib.parse import urlsplit, urlunsplit

Message = dict[str, Any]
"""One JSON object as it came from the server."""

DEFAULT_URL = "http://localhost:3000"


class ClientError(Exception):
    """The server refused, or could not be reached.

    Attributes:
        code: the server's stable code (`session_expired`, `unsupported_audio`, …), or one of the
            client's own: `cannot_connect`, `connection_lost`, `no_answer`, `bad_address`, `bad_answer`.
        message: one sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StartOptions(TypedDict, total=False):
    """What a session can be started with; what is left out, the server decides.

    `format`, `sample_rate` (samples a second) and `channels` describe the chunks to come; the last
    two count for headerless PCM only, since every container says them itself.
    """

    session_id: str
    model: str
    response_modality: Literal["text", "audio"]
    input_transcription: bool
    output_transcription: bool
    format: str
    sample_rate: int
    channels: int
    language: str
    voice: str


def server_address(url: str, scheme: Literal["http", "ws"], path: str) -> str:
    """The server's address for one protocol: `http://host:3000`, `ws`, `/ws/x` → `ws://host:3000/ws/x`.

    Any of http, https, ws and wss is understood, TLS is kept, and a path in `url` is a prefix.

    Raises:
        ClientError: `bad_address`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.netloc:
        raise ClientError("bad_address", f"{url} is not the address of a server; write {DEFAULT_URL}")
    secure = "s" if parts.scheme in ("https", "wss") else ""
    return urlunsplit((scheme + secure, parts.netloc, parts.path.rstrip("/") + path, "", ""))
