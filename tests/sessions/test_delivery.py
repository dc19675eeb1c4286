"""REST answers: together they hold every word once, and only the newest request waits long."""

from __future__ import annotations

import asyncio

import pytest

from tornado_live.errors import SessionEnded
from tornado_live.sessions.delivery import RestDelivery


def delivery(wait_s: float = 0.1, max_s: float = 0.5) -> RestDelivery:
    return RestDelivery(wait_s=wait_s, max_s=max_s)


@pytest.mark.gen_test
async def test_the_end_of_an_exchange_answers_the_oldest_request() -> None:
    rest = delivery(wait_s=5.0, max_s=5.0)
    oldest, newest = rest.wait(), rest.wait()
    rest.add_input("t1", "hello")
    rest.exchange_ended(b"", completed=True)
    assert (await oldest).input_text == "hello"
    assert not newest.done()
    newest.cancel()


@pytest.mark.gen_test
async def test_an_interrupted_exchange_answers_nobody() -> None:
    rest = delivery(wait_s=5.0, max_s=5.0)
    waiting = rest.wait()
    rest.exchange_ended(b"", completed=False)
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.gen_test
async def test_a_newer_request_lets_the_one_before_it_go_soon() -> None:
    rest = delivery(wait_s=0.05, max_s=5.0)
    first = rest.wait()
    rest.add_input("t1", "one")
    second = rest.wait()
    assert (await asyncio.wait_for(first, 1.0)).input_text == "one"
    assert not second.done()
    second.cancel()


@pytest.mark.gen_test
async def test_nobody_waits_longer_than_the_longest_wait() -> None:
    answer = await asyncio.wait_for(delivery(max_s=0.05).wait(), 1.0)
    assert (answer.input_text, answer.reply_text, answer.turn_id) == ("", "", None)


@pytest.mark.gen_test
async def test_joined_answers_are_the_whole_of_all_turns() -> None:
    rest = delivery()
    rest.add_input("t1", " And so")
    first = rest.take()
    rest.add_input("t1", " my fellow")
    rest.add_input("t2", "Americans")
    second = rest.take()
    assert first.input_text + second.input_text == "And so my fellow Americans"


@pytest.mark.gen_test
async def test_an_answer_that_was_not_written_is_given_to_the_next() -> None:
    rest = delivery()
    rest.add_input("t1", "one")
    lost = rest.take()
    rest.add_input("t1", " two")
    rest.give_back(lost)
    assert rest.take().input_text == "one two"


@pytest.mark.gen_test
async def test_a_request_whose_client_has_gone_takes_nothing() -> None:
    rest = delivery(wait_s=5.0, max_s=5.0)
    gone, here = rest.wait(), rest.wait()
    gone.cancel()
    await asyncio.sleep(0)
    rest.add_input("t1", "for whom?")
    rest.exchange_ended(b"", completed=True)
    assert (await here).input_text == "for whom?"


@pytest.mark.gen_test
async def test_the_end_of_the_session_answers_all() -> None:
    rest = delivery(wait_s=5.0, max_s=5.0)
    waiting = [rest.wait() for _ in range(3)]
    rest.add_reply("t1", "bye")
    rest.release_all()
    assert [(await each).reply_text for each in waiting] == ["bye", "", ""]


@pytest.mark.gen_test
async def test_a_failure_reaches_all_and_the_text_stays() -> None:
    rest = delivery(wait_s=5.0, max_s=5.0)
    waiting = [rest.wait() for _ in range(2)]
    rest.add_input("t1", "kept")
    rest.fail_all(SessionEnded())
    for each in waiting:
        with pytest.raises(SessionEnded):
            await each
    assert rest.take().input_text == "kept"
