"""Fuzz target of the WebSocket's messages: whatever the frame, a message or a `LiveError`.

Run it by hand, for as long as it takes, with libFuzzer's own options:

    python tests/fuzz/messages.py -max_total_time=60 -seed=1 tests/fuzz/corpus/messages
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["tornado_live.wire", "tornado_live.sessions.options"]):
    from wire_kit import understand


def run(data: bytes) -> None:
    """Bytes that are no UTF-8 never get past Tornado; the parser must stand them all the same."""
    understand(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    understand(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
