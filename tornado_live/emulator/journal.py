"""What happened, frame by frame: what tests and people read when they ask who lost what."""

from __future__ import annotations

import heapq
import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, TextIO

Direction = Literal["in", "out", "note"]


class Journal:
    """The newest entries in memory, all of them in a file where one is asked for.

    An entry is a dict of `ns` (monotonic clock, nanoseconds), `connection` (its number, 0 for the emulator
    itself), `dir` (`in` and `out` are frames, `note` is something that happened), `bytes` (frames only),
    `what` (the frame's fields or the note's name) and whatever else tells about it. Offsets are samples at
    16 kHz.
    """

    def __init__(self, path: str | None = None) -> None:
        # Apart, so that frames, of which there are many, do not push out the notes.
        self._frames: deque[dict[str, Any]] = deque(maxlen=20_000)
        self._notes: deque[dict[str, Any]] = deque(maxlen=50_000)
        self._file: TextIO | None = open(path, "a", encoding="utf-8", buffering=1) if path else None  # noqa: SIM115

    def frame(self, connection: int, direction: Direction, size_bytes: int, what: str, **more: Any) -> None:
        self._add({"connection": connection, "dir": direction, "bytes": size_bytes, "what": what, **more})

    def note(self, connection: int, what: str, **more: Any) -> None:
        self._add({"connection": connection, "dir": "note", "what": what, **more})

    def _add(self, entry: dict[str, Any]) -> None:
        entry = {"ns": time.monotonic_ns(), **entry}
        (self._notes if entry["dir"] == "note" else self._frames).append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return heapq.merge(list(self._frames), list(self._notes), key=lambda entry: int(entry["ns"]))

    def __len__(self) -> int:
        return len(self._frames) + len(self._notes)

    def select(self, what: str, connection: int | None = None) -> list[dict[str, Any]]:
        """The entries of one kind, of one connection or of all."""
        return [
            entry
            for entry in self
            if entry["what"] == what and (connection is None or entry["connection"] == connection)
        ]

    def clear(self) -> None:
        """Forgets what is in memory; the file keeps it."""
        self._frames.clear()
        self._notes.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
