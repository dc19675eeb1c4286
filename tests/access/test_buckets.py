"""Token buckets and the gate of a connection."""

from __future__ import annotations

import pytest

from tornado_live.access.buckets import BucketTable, MessageGate, TokenBucket
from tornado_live.errors import RateLimited


def test_a_burst_then_the_rate(clock) -> None:
    bucket = TokenBucket(10, 20, clock=clock)
    assert [bucket.take() for _ in range(20)] == [0.0] * 20
    assert bucket.take() == pytest.approx(0.1)
    clock.advance(1.0)
    assert sum(bucket.take() == 0.0 for _ in range(50)) == 10


def test_after_the_time_it_tells_a_bucket_gives(clock) -> None:
    bucket = TokenBucket(3, 3, clock=clock)
    while (wait_s := bucket.take()) == 0.0:
        pass
    clock.advance(wait_s + 1e-9)
    assert bucket.take() == 0.0


def test_a_refusal_takes_nothing(clock) -> None:
    bucket = TokenBucket(1, 1, clock=clock)
    bucket.take()
    waits = [bucket.take() for _ in range(100)]
    assert waits == [1.0] * 100


def test_looking_takes_nothing(clock) -> None:
    bucket = TokenBucket(1, 2, clock=clock)
    assert [bucket.wait_s() for _ in range(10)] == [0.0] * 10
    assert bucket.take() == 0.0


def test_more_than_the_burst_is_given_once_and_owed(clock) -> None:
    bucket = TokenBucket(10, 20, clock=clock)
    assert bucket.take(50) == 0.0
    assert bucket.take() == pytest.approx(3.1)


def test_a_table_keeps_the_names_it_saw_last(clock) -> None:
    table = BucketTable(1, 1, size=2, clock=clock)
    first = table.bucket("a")
    table.bucket("b")
    assert table.bucket("a") is first
    table.bucket("c")
    assert table.bucket("a") is first
    assert len(table) == 2


def test_a_flooder_is_told_once_a_second_and_cut_off_at_the_third_time(clock) -> None:
    gate = MessageGate([TokenBucket(60, 120, clock=clock)], clock=clock)
    admitted, waits = 0, []
    while not gate.exhausted:
        clock.advance(0.0005)
        try:
            admitted += gate.admit_message()
        except RateLimited as refusal:
            waits.append(refusal.retry_after_s)
    assert len(waits) == 3
    assert all(0 < wait_s <= 1 / 60 for wait_s in waits)
    assert 120 <= admitted <= 120 + 60 * 3


def test_a_reader_that_pauses_as_long_as_it_is_told_admits_the_next_message(clock) -> None:
    gate = MessageGate([TokenBucket(60, 120, clock=clock), TokenBucket(10, 20, clock=clock)], clock=clock)
    for _ in range(20):
        assert gate.admit_message()
    assert gate.pause_s == pytest.approx(0.1)
    clock.advance(gate.pause_s + 1e-9)
    assert gate.admit_message()


def test_a_client_that_slows_down_is_forgiven(clock) -> None:
    gate = MessageGate([TokenBucket(1, 1, clock=clock)], clock=clock)
    for _ in range(10):
        assert gate.admit_message()
        with pytest.raises(RateLimited):
            gate.admit_message()
        clock.advance(61)
    assert not gate.exhausted


def test_a_gate_without_limits_admits_everything() -> None:
    gate = MessageGate([])
    assert all(gate.admit_message() for _ in range(10_000))


def test_a_flood_of_pings_is_noticed(clock) -> None:
    gate = MessageGate([], clock=clock)
    assert [gate.admit_ping() for _ in range(11)] == [True] * 10 + [False]
    clock.advance(0.2)
    assert gate.admit_ping()
