"""What strangers may do before they have said who they are."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tornado_live.access.strangers import StrangerGuard
from tornado_live.errors import RateLimited
from tornado_live.settings import AuthSettings


def test_guessing_keys_is_slowed_to_the_rate_of_the_settings(clock) -> None:
    guard = StrangerGuard(AuthSettings(failures_per_minute=20), clock=clock)
    tried, waits = 0, []
    for _ in range(3600):
        clock.advance(1.0)
        try:
            guard.check("203.0.113.9")
        except RateLimited as refusal:
            waits.append(refusal.retry_after_s)
        else:
            guard.note_failure("203.0.113.9")
            tried += 1
    assert tried <= 20 + 20 * 60
    assert all(0 < wait_s <= 3.0 for wait_s in waits)


def test_one_guesser_does_not_slow_another_address(clock) -> None:
    guard = StrangerGuard(AuthSettings(failures_per_minute=1), clock=clock)
    guard.note_failure("203.0.113.9")
    with pytest.raises(RateLimited):
        guard.check("203.0.113.9")
    guard.check("203.0.113.10")


def test_a_guesser_gains_nothing_by_moving_within_its_ipv6_network(clock) -> None:
    guard = StrangerGuard(AuthSettings(failures_per_minute=1), clock=clock)
    guard.note_failure("2001:db8::1")
    with pytest.raises(RateLimited):
        guard.check("2001:db8::2")


def test_sockets_that_wait_for_authentication_are_bounded_per_address() -> None:
    guard = StrangerGuard(AuthSettings(unauthenticated_per_address=3))
    with ExitStack() as waiting:
        for _ in range(3):
            waiting.enter_context(guard.waiting("203.0.113.9"))
        with pytest.raises(RateLimited), guard.waiting("203.0.113.9"):
            pass
        with guard.waiting("203.0.113.10"):
            pass
    with guard.waiting("203.0.113.9"):
        pass
