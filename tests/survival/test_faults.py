"""What sessions survive, in short; `benchmarks/faults.py` runs all of it in full."""

from __future__ import annotations

import asyncio

import pytest
from fault_runs import closes, crashes, cuts, drains, leaks, model, readers, rotation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_every_word_spoken_through_go_aways_is_in_the_ledger_once() -> None:
    heard = asyncio.run(rotation.talk_through_go_aways(3))
    assert heard.go_aways >= 3
    assert heard.in_ledger == heard.spoken
    assert heard.unacknowledged == 0
    assert max(heard.rotations) <= 300 + heard.dial_ms


def test_fifteen_minutes_of_lifetimes_lose_no_word() -> None:
    heard = asyncio.run(rotation.talk_for(30, model="gemini-3.1-flash-live-preview", time_scale=30))
    assert heard.go_aways >= 1
    assert heard.in_ledger == heard.spoken


def test_a_client_that_is_cut_anywhere_gets_every_byte_once() -> None:
    for one in asyncio.run(cuts.cut_clients(6, at_once=6, longest_away_s=3.0)):
        assert (one.exact, one.taken, one.trouble) == (True, True, ""), one


def test_killed_servers_lose_no_committed_turn_and_take_everybody_back() -> None:
    for kill in asyncio.run(crashes.kill_servers(2, sessions=3)):
        for one in kill:
            assert (one.intact, one.goes_on) == (True, True), one
            assert one.attached_s <= 15


def test_a_server_that_is_told_to_stop_tells_everybody() -> None:
    seen = asyncio.run(drains.terminate(40, speaking=10))
    assert (seen.told, seen.closed_1012, seen.finished) == (40, 40, 10)
    assert (seen.lost_turns, seen.exit_code) == (0, 0)
    assert seen.seconds <= 45


def test_every_way_to_close_has_the_right_answer_and_no_storm() -> None:
    reactions = asyncio.run(closes.close_every_way(watched_s=2.0, at_once=13))
    assert [one for one in reactions if not one.right] == []


def test_readers_that_never_read_are_closed_and_cost_little() -> None:
    seen = asyncio.run(readers.never_read(10))
    assert seen.closed_s <= 45
    assert seen.grown_mib <= 10 * readers.MIB_A_READER


def test_nothing_is_left_of_sessions_that_are_over() -> None:
    seen = asyncio.run(leaks.start_and_end(60, warm_up=60))
    before, after = seen.before, seen.after
    assert (after.tasks, after.files, after.threads) == (before.tasks, before.files, before.threads)
    assert seen.upstream_left == 0


def test_no_order_of_events_breaks_a_promise() -> None:
    taken, failure = model.check(examples=6, steps=12)
    assert failure == ""
    assert taken.steps > 20
