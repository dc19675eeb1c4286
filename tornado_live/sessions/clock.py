"""A session's age and its end, on the monotonic clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WARN_AT_S = (60.0, 30.0, 10.0)


class SessionClock:
    """Counts from the session's start, which may lie in an earlier process, to its end.

    Args:
        started_at, expires_at: seconds since 1970; what the wall clock does later has no effect.
        on_warning: told how many seconds are left, at each of `WARN_AT_S`.
        on_end: told when none are.
    """

    def __init__(
        self,
        started_at: float,
        expires_at: float,
        on_warning: Callable[[float], None],
        on_end: Callable[[], None],
    ) -> None:
        self._zero_s = time.monotonic() - (time.time() - started_at)
        self._lifetime_s = expires_at - started_at
        self._on_warning = on_warning
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now_ms(self) -> int:
        """ms since the start."""
        return int((time.monotonic() - self._zero_s) * 1000)

    @property
    def remaining_s(self) -> float:
        return self._zero_s + self._lifetime_s - time.monotonic()

    def start(self) -> None:
        """From now on warns and ends. To be called again after `move_end`."""
        self.stop()
        remaining_s = self.remaining_s
        if remaining_s <= 0:
            self._on_end()
            return
        next_s = next((at_s for at_s in WARN_AT_S if at_s < remaining_s), 0.0)
        self._timer = asyncio.get_running_loop().call_later(remaining_s - next_s, self._strike, next_s)

    def move_end(self, by_s: float) -> None:
        self._lifetime_s += by_s
        self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _strike(self, before_end_s: float) -> None:
        if before_end_s:
            self._on_warning(before_end_s)
        self.start()
