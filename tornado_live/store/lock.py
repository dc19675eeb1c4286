"""The lock that keeps two servers from holding the same sessions.

It lies beside the store's file, not on it: SQLite's own locks are there (https://www.sqlite.org/lockingv3.html),
and whoever reads or copies the file beside a running server needs none.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held(path: str) -> Iterator[None]:
    """Holds the store at `path` for this server by a `flock(2)` on `<path>-lock`.

    The kernel lets go of it when the process ends, in whatever way. The lock file stays: a server that
    deleted it could take it from under one that has just opened it.

    Raises:
        BlockingIOError: another server holds it.
        OSError: the lock file cannot be made.
    """
    file = os.open(f"{os.path.realpath(path)}-lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)
