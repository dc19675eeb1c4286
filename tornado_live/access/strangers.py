"""What strangers may do before they have said who they are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tornado_live.access.buckets import BucketTable
from tornado_live.access.proxies import address_group
from tornado_live.errors import RateLimited
from tornado_live.settings import AuthSettings


class StrangerGuard:
    """Bounds wrong credentials, and WebSockets without any, per address.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, settings: AuthSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        per_minute = settings.failures_per_minute
        self._failures = BucketTable(per_minute / 60, per_minute, clock=clock)
        self._max_waiting = settings.unauthenticated_per_address
        self._waiting: Counter[str] = Counter()

    def check(self, address: str) -> None:
        """Before a credential is looked at.

        Raises:
            RateLimited: too many wrong ones came from this address; a right one must wait as well, else
                the answer would tell it from a wrong one.
        """
        wait_s = self._failures.bucket(address_group(address)).wait_s()
        if wait_s > 0:
            raise RateLimited("Too many wrong keys or tokens from this address.", retry_after_s=wait_s)

    def note_failure(self, address: str) -> None:
        """After AuthFailed."""
        self._failures.bucket(address_group(address)).take()

    @contextmanager
    def waiting(self, address: str) -> Iterator[None]:
        """While a WebSocket is open that has not authenticated.

        Raises:
            RateLimited: this address has too many of them.
        """
        group = address_group(address)
        if self._waiting[group] >= self._max_waiting:
            raise RateLimited("Too many connections from this address wait for authentication.")
        self._waiting[group] += 1
        try:
            yield
        finally:
            self._waiting[group] -= 1
            if not self._waiting[group]:
                del self._waiting[group]
