"""The event log: what a client that was away can still get."""

from __future__ import annotations

from tornado_live.sessions import events
from tornado_live.sessions.events import EventLog, ExchangeUpdate, Notice, ReplyAudio
from tornado_live.sessions.transcript import Exchange

EXCHANGE = Exchange("t1", 0)


def audio(size_bytes: int) -> ReplyAudio:
    return ReplyAudio(EXCHANGE, bytes(size_bytes))


def test_numbers_count_from_one_or_from_where_an_earlier_process_stopped() -> None:
    assert EventLog().append(Notice("n"), 0.0).seq == 1
    assert EventLog(last_seq=41).append(Notice("n"), 0.0).seq == 42


def test_since_returns_exactly_what_came_after() -> None:
    log = EventLog()
    for _ in range(5):
        log.append(Notice("n"), 0.0)
    missed, gap = log.since(3)
    assert ([event.seq for event in missed], gap) == ([4, 5], None)
    assert log.since(5) == ([], None)


def test_old_events_leave_and_are_named_as_a_gap() -> None:
    log = EventLog()
    for at_s in range(20):
        log.append(Notice("n"), float(at_s))
    missed, gap = log.since(2)
    assert gap == (3, missed[0].seq - 1)
    assert 19 - missed[0].at_s <= events.MAX_AGE_S


def test_ten_seconds_of_audio_always_fit() -> None:
    log = EventLog()
    for index in range(120):
        log.append(audio(4800), index / 10)
    missed, gap = log.since(20)
    assert (len(missed), gap) == (100, None)


def test_size_is_bounded() -> None:
    log = EventLog()
    for _ in range(100):
        log.append(audio(48_000), 0.0)
    missed, _ = log.since(0)
    assert sum(event.body.size_bytes for event in missed) <= events.MAX_BYTES


def test_a_whole_reply_larger_than_the_bound_can_be_fetched_again() -> None:
    log = EventLog()
    log.append(Notice("before"), 0.0)
    log.append(ExchangeUpdate.of(EXCHANGE, final=True, audio=bytes(5 * events.MAX_BYTES)), 0.0)
    log.append(Notice("turn_complete"), 0.0)
    missed, gap = log.since(0)
    assert ([event.seq for event in missed], gap) == ([1, 2, 3], None)


def test_only_the_newest_whole_reply_is_kept_beyond_the_bound() -> None:
    log = EventLog()
    for _ in range(2):
        log.append(ExchangeUpdate.of(EXCHANGE, final=True, audio=bytes(5 * events.MAX_BYTES)), 0.0)
        log.append(Notice("turn_complete"), 0.0)
    missed, gap = log.since(0)
    assert ([event.seq for event in missed], gap) == ([2, 3, 4], (1, 1))


def test_what_is_acknowledged_leaves_and_makes_room() -> None:
    log = EventLog()
    for _ in range(3):
        log.append(audio(1000), 0.0)
    log.acknowledge(2)
    assert [event.seq for event in log.since(2)[0]] == [3]
    assert log.since(0)[1] == (1, 2)
