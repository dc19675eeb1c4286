"""The `audio_data` field: base64, bare or as a whole `data:` URL (RFC 2397)."""

from __future__ import annotations

import binascii

import pybase64

from tornado_live.errors import EmptyAudio, InvalidBase64


def decode_audio_data(text: str) -> bytes:
    """The bytes of an `audio_data` field.

    Raises:
        InvalidBase64: not standard base64 with its padding (RFC 4648 section 4), or a `data:` URL
            that is not marked `;base64`.
        EmptyAudio: there are no bytes.
    """
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise InvalidBase64("audio_data is a data: URL that is not base64.")
    try:
        data = pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidBase64 from None
    if not data:
        raise EmptyAudio
    return data
