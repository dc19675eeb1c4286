"""A file that is read again when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from tornado_live.errors import SettingsError

_log = structlog.get_logger(__name__)
_LOOK_AGAIN_AFTER_S = 1.0

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What `read` makes of the file, at most one second old.

    A file that can no longer be read, or has become wrong, leaves the last good value in force and is
    logged once for each change: a slip of the editor must lock nobody out.

    Args:
        read: makes the value; raises SettingsError when the file is missing or wrong.

    Raises:
        SettingsError: the first reading failed.
    """

    def __init__(
        self, path: str, read: Callable[[Path], T], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = Path(path)
        self._read = read
        self._clock = clock
        self._stamp = self._stamp_now()
        self._looked_at = clock()
        self._value = read(self._path)

    @property
    def value(self) -> T:
        now = self._clock()
        if now - self._looked_at >= _LOOK_AGAIN_AFTER_S:
            self._looked_at = now
            if self._stamp_now() != self._stamp:
                self.reload()
        return self._value

    def reload(self) -> None:
        """Reads the file now, changed or not."""
        # The stamp is taken first: a write during the reading then counts as another change.
        self._stamp = self._stamp_now()
        try:
            self._value = self._read(self._path)
        except SettingsError as error:
            _log.error("file_not_reloaded", file=self._path.name, problems=error.problems)
        else:
            _log.info("file_reloaded", file=self._path.name)

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
