"""When to leave a connection that will be cut: at a quiet moment, or just before the cut."""

from __future__ import annotations

from tornado_live.upstream.policy import LinkPolicy


class Rotation:
    """One connection's age. Times are monotonic seconds.

    Args:
        opened_at: when the connection was set up.
        max_age_s: the age at which the model's connections are cut.
    """

    def __init__(self, policy: LinkPolicy, *, opened_at: float, max_age_s: float) -> None:
        self._policy = policy
        self.wanted_at = opened_at + max_age_s - min(policy.rotate_margin_s, max_age_s / 2)
        self._deadline = opened_at + max_age_s - min(policy.rotate_reserve_s, max_age_s / 4)

    def go_away(self, now: float, time_left_s: float) -> None:
        """The connection will be cut in `time_left_s`."""
        self.wanted_at = min(self.wanted_at, now)
        reserve_s = min(self._policy.rotate_reserve_s, time_left_s / 4)
        self._deadline = min(self._deadline, now + time_left_s - reserve_s)

    def due(self, now: float, *, quiet: bool) -> bool:
        """Whether to replace the connection now."""
        return now >= self._deadline or (quiet and now >= self.wanted_at)
