"""When to dial again, with what, and when to give up."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tornado_live.errors import UpstreamError
from tornado_live.upstream.closing import ClosingKind, kind_of, told
from tornado_live.upstream.policy import LinkPolicy


@dataclass(frozen=True, slots=True)
class Redial:
    """
    Attributes:
        delay_s: wait so long first.
        fresh: without the handle.
        attempt: 1 for the first dial of this outage.
    """

    delay_s: float
    fresh: bool
    attempt: int


class Outage:
    """What has been tried since the link last worked. Every method takes the time in monotonic seconds."""

    def __init__(self, policy: LinkPolicy, *, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._policy = policy
        self._draw = draw
        self._dials: deque[float] = deque(maxlen=policy.max_dials)
        self._began_at: float | None = None
        self._connected_at: float | None = None
        self._ever_connected = False
        self._attempts = 0
        self._failed_resumes = 0
        self._dialled_fresh = False

    def dialled(self, now: float) -> None:
        """A dial begins."""
        self._dials.append(now)
        if self._began_at is None or self._connected_at is not None:
            # The first dial of all, or one that replaces a sound connection.
            self._began_at = now
        self._connected_at = None

    def connected(self, now: float) -> None:
        """The dial went through."""
        self._connected_at = now
        self._ever_connected = True

    def next(self, error: UpstreamError, *, resuming: bool, now: float) -> Redial:
        """What to do after this error, of a dial or of a connection.

        Args:
            resuming: the dial was made with a handle.

        Raises:
            UpstreamError: nothing more: the error to tell the client.
        """
        connected = self._connected_at is not None
        self._forget_if_stable(now)
        kind = kind_of(error)
        # A quota of connections may still count the one that was just left.
        if kind is ClosingKind.FATAL or (kind is ClosingKind.QUOTA and not self._ever_connected):
            raise told(error) from None
        fresh = False
        if kind is ClosingKind.RETRY_FRESH:
            if self._dialled_fresh or not (connected or resuming):
                raise told(error) from None
            fresh = self._dialled_fresh = True
        elif resuming and not connected:
            self._failed_resumes += 1
            fresh = self._failed_resumes >= self._policy.max_resume_dials
        return Redial(self._delay_s(error, now), fresh, self._attempts)

    def _forget_if_stable(self, now: float) -> None:
        if self._connected_at is None:
            return
        if now - self._connected_at >= self._policy.stable_after_s:
            self._attempts = 0
            self._failed_resumes = 0
            self._dialled_fresh = False
        if self._attempts == 0:
            self._began_at = now
        self._connected_at = None

    def _delay_s(self, error: UpstreamError, now: float) -> float:
        policy = self._policy
        pause_s = policy.backoff_s[min(self._attempts, len(policy.backoff_s) - 1)]
        next_at = now + max(self._draw(0.0, pause_s), error.retry_after_s or 0.0)
        if len(self._dials) == policy.max_dials:
            next_at = max(next_at, self._dials[0] + policy.dial_window_s)
        assert self._began_at is not None
        longest_s = policy.outage_max_s if self._ever_connected else policy.first_outage_max_s
        if next_at - self._began_at > longest_s:
            raise told(error) from None
        self._attempts += 1
        return next_at - now
