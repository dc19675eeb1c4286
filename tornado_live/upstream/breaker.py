"""A circuit breaker for quota: once one session is told that it is used up, the others need not ask."""

from __future__ import annotations

import time
from collections.abc import Callable

from tornado_live.errors import UpstreamQuota


class QuotaBreaker:
    """Closed until a refusal, then open for a while that doubles with each refusal in a row.

    When the time is over, one dial is let through as a probe; the others wait for what becomes of it.

    Args:
        first_s, longest_s: how long it stays open after the first refusal, and at most.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, first_s: float = 5.0, longest_s: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock = clock
        self._pause_s = 0.0
        self._until = 0.0
        self._probing = False

    def check(self) -> None:
        """To be called before each dial.

        Raises:
            UpstreamQuota: open; `retry_after_s` says for how long.
        """
        if self._pause_s == 0.0:
            return
        left_s = self._until - self._clock()
        if left_s > 0:
            raise UpstreamQuota(retry_after_s=left_s)
        self._until = self._clock() + self._pause_s
        self._probing = True

    def refused(self) -> UpstreamQuota:
        """A dial or a connection was refused for quota: opens, and returns the error to raise."""
        now = self._clock()
        # Dials that were under way when it opened say nothing new.
        if self._probing or now >= self._until:
            self._pause_s = min(self._pause_s * 2 or self._first_s, self._longest_s)
            self._until = now + self._pause_s
            self._probing = False
        return UpstreamQuota(retry_after_s=self._until - now)

    def accepted(self) -> None:
        """A dial went through: closes."""
        self._pause_s = 0.0
        self._until = 0.0
        self._probing = False
