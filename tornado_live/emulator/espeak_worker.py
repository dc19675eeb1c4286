"""eSpeak NG in a process of its own: it is under the GPL and keeps global state.

Run as a script. Reads one JSON string a line and answers each with its audio: eight bytes of length,
big-endian, then s16le mono samples. The first answer, before any line is read, is the sample rate in hertz,
in four bytes.
"""

from __future__ import annotations

import ctypes
import json
import sys

import espeakng_loader

_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_DONT_EXIT = 0x8000

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> None:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
    audio = bytearray()

    def collect(samples: object, count: int, _events: object) -> int:
        if count > 0:
            audio.extend(ctypes.string_at(samples, count * 2))  # type: ignore[arg-type]
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(b"en-us")
    output = sys.stdout.buffer
    output.write(rate_hz.to_bytes(4, "big"))
    output.flush()
    for line in sys.stdin.buffer:
        text = json.loads(line).encode() + b"\0"
        audio.clear()
        library.espeak_Synth(text, len(text), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        output.write(len(audio).to_bytes(8, "big") + audio)
        output.flush()


if __name__ == "__main__":
    main()
