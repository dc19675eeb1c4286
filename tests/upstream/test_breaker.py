from __future__ import annotations

import pytest

from tornado_live.errors import UpstreamQuota
from tornado_live.upstream.breaker import QuotaBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> QuotaBreaker:
    return QuotaBreaker(first_s=5.0, longest_s=30.0, clock=clock)


def test_it_lets_everything_through_until_a_refusal(breaker: QuotaBreaker) -> None:
    for _ in range(10):
        breaker.check()


def test_after_a_refusal_it_refuses_without_asking_and_says_for_how_long(
    breaker: QuotaBreaker, clock: Clock
) -> None:
    assert breaker.refused().retry_after_s == 5.0
    clock.now += 2.0
    with pytest.raises(UpstreamQuota) as refused:
        breaker.check()
    assert refused.value.retry_after_s == pytest.approx(3.0)


def test_when_the_pause_is_over_one_dial_goes_through_as_a_probe(breaker: QuotaBreaker, clock: Clock) -> None:
    breaker.refused()
    clock.now += 5.0
    breaker.check()
    with pytest.raises(UpstreamQuota):
        breaker.check()


def test_a_probe_that_goes_through_closes_it(breaker: QuotaBreaker, clock: Clock) -> None:
    breaker.refused()
    clock.now += 5.0
    breaker.check()
    breaker.accepted()
    breaker.check()
    assert breaker.refused().retry_after_s == 5.0


def test_each_refused_probe_doubles_the_pause_up_to_the_longest(breaker: QuotaBreaker, clock: Clock) -> None:
    pauses = []
    for _ in range(5):
        breaker.check()
        pauses.append(breaker.refused().retry_after_s)
        clock.now += pauses[-1] or 0.0
    assert pauses == [5.0, 10.0, 20.0, 30.0, 30.0]


def test_dials_that_were_under_way_do_not_double_the_pause(breaker: QuotaBreaker) -> None:
    assert [breaker.refused().retry_after_s for _ in range(3)] == [5.0, 5.0, 5.0]
