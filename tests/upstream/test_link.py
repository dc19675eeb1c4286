"""The link over hand-made connections, at ten times the usual speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from support import until

from tornado_live.errors import (
    AudioTooFast,
    InvalidField,
    UpstreamError,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tornado_live.upstream.base import (
    AudioDelivered,
    AudioDelta,
    GenerationComplete,
    GoAway,
    HistoryTurn,
    InputTranscript,
    Interrupted,
    LinkFailed,
    LinkReady,
    LinkReconnecting,
    LinkRotated,
    OutputTranscript,
    ResumptionHandle,
    TurnComplete,
    TurnFailed,
    UpstreamSetup,
)
from tornado_live.upstream.closing import ConnectionClosed
from tornado_live.upstream.link import Link
from upstream.fakes import FAST, TRAILING, Ears, FakeConnector, make_link, quiet, speech

VOICE = AudioDelta(b"\x00\x20" * 240)


@asynccontextmanager
async def linked(connector: FakeConnector, ears: Ears | None = None, **options: Any) -> AsyncIterator[Link]:
    """A link that is started, and stopped in the end."""
    link = make_link(connector, ears or Ears(), **options)
    link.start()
    try:
        yield link
    finally:
        await link.stop()


async def hold(link: Link, condition: Any, seconds: float) -> None:
    """Asserts that something stays true for a while."""
    loop = asyncio.get_running_loop()
    until_at = loop.time() + seconds
    while loop.time() < until_at:
        assert condition()
        await asyncio.sleep(0.01)


@pytest.fixture
def connector() -> FakeConnector:
    return FakeConnector()


@pytest.fixture
def ears() -> Ears:
    return Ears()


# Beginning and end


@pytest.mark.gen_test
async def test_a_link_becomes_ready(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears) as link:
        assert not link.connected
        assert await link.wait_ready(1.0)
        assert link.connected
        assert ears.events == [LinkReady()]
        assert [(dial.handle, dial.seeded) for dial in connector.dials] == [(None, False)]


@pytest.mark.gen_test
async def test_waiting_for_a_slow_model_ends_without_an_answer(connector: FakeConnector) -> None:
    gate = asyncio.Event()
    connector.answers = [gate]
    async with linked(connector) as link:
        assert await link.wait_ready(0.05) is False
        gate.set()
        assert await link.wait_ready(1.0) is True


@pytest.mark.parametrize(
    ("error", "told", "dials"),
    [
        (UpstreamRefused(), UpstreamRefused, 1),
        (ConnectionClosed(1007, "Request contains an invalid argument."), UpstreamRefused, 1),
        (ConnectionClosed(1008, "models/x is not found"), UpstreamRefused, 1),
        (UpstreamQuota(retry_after_s=5.0), UpstreamQuota, 1),
        (ConnectionClosed(1011, "You exceeded your current quota"), UpstreamQuota, 1),
        (UpstreamUnavailable(), UpstreamUnavailable, range(2, 7)),
        (UpstreamTimeout(), UpstreamTimeout, range(2, 7)),
        (ConnectionClosed(1011, "Internal error occurred."), UpstreamUnavailable, range(2, 7)),
        (ConnectionClosed(1006), UpstreamUnavailable, range(2, 7)),
    ],
)
@pytest.mark.gen_test
async def test_a_first_dial_that_fails_is_told_and_ends_the_link(
    connector: FakeConnector, ears: Ears, error: UpstreamError, told: type[UpstreamError], dials: Any
) -> None:
    connector.default = error
    async with linked(connector, ears) as link:
        with pytest.raises(told) as refused:
            await link.wait_ready(3.0)
        assert type(refused.value) is told
        assert refused.value.retry_after_s == error.retry_after_s
        [failed] = ears.events
        assert isinstance(failed, LinkFailed)
        assert failed.error is refused.value
        assert len(connector.dials) in (dials if isinstance(dials, range) else (dials,))


@pytest.mark.gen_test
async def test_a_first_dial_is_tried_again_while_the_client_waits(
    connector: FakeConnector, ears: Ears
) -> None:
    connector.answers = [ConnectionClosed(1011, "The service is currently unavailable.")]
    async with linked(connector, ears) as link:
        assert await link.wait_ready(1.0)
        assert ears.events == [LinkReady()]


@pytest.mark.gen_test
async def test_stopping_closes_the_connection_and_leaves_no_task(connector: FakeConnector) -> None:
    before = asyncio.all_tasks()
    link = make_link(connector, Ears())
    link.start()
    assert await link.wait_ready(1.0)
    await asyncio.gather(link.stop(), link.stop())
    await link.stop()
    assert connector.connections[0].closed
    assert asyncio.all_tasks() == before
    assert not link.connected


@pytest.mark.gen_test
async def test_a_link_can_be_stopped_while_it_dials(
    connector: FakeConnector,
) -> None:
    connector.answers = [asyncio.Event()]
    link = make_link(connector, Ears())
    link.start()
    waiting = asyncio.create_task(link.wait_ready(5.0))
    await until(lambda: connector.dials)
    await link.stop()
    assert await waiting is False


@pytest.mark.gen_test
async def test_a_link_can_be_stopped_before_it_was_started(connector: FakeConnector) -> None:
    link = make_link(connector, Ears())
    await link.stop()
    assert await link.wait_ready(1.0) is False


@pytest.mark.gen_test
async def test_what_is_sent_after_the_end_is_nothing(connector: FakeConnector) -> None:
    connector.default = UpstreamRefused()
    ears = Ears()
    async with linked(connector, ears) as link:
        await ears.hears(LinkFailed)
        for _ in range(200):
            link.send_audio(speech(1.0))
        link.send_text("hello")
        assert link.backlog_s == 0.0


@pytest.mark.gen_test
async def test_every_connection_is_entered_and_left_by_the_same_task(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears):
        (await connector.connection(0)).cut()
        (await connector.connection(1)).say(GoAway(0.0))
        await connector.connection(2)
    assert (
        len({dial.entered_by for dial in connector.dials} | {dial.left_by for dial in connector.dials}) == 1
    )


def test_a_set_up_that_the_model_does_not_take_is_refused_before_anything_is_dialled() -> None:
    with pytest.raises(InvalidField):
        Link(FakeConnector(), UpstreamSetup("x", voice="Alexa"), TRAILING, Ears())


@pytest.mark.gen_test
async def test_a_session_that_raises_ends_its_link(
    connector: FakeConnector, caplog: pytest.LogCaptureFixture
) -> None:
    heard = []

    def raise_at_text(event: Any) -> None:
        heard.append(event)
        if isinstance(event, OutputTranscript):
            raise ZeroDivisionError

    link = Link(connector, UpstreamSetup("x"), TRAILING, raise_at_text, policy=FAST)
    link.start()
    (await connector.connection()).say(OutputTranscript("hello"))
    await until(lambda: isinstance(heard[-1], LinkFailed))
    await link.stop()
    assert "ZeroDivisionError" in caplog.text
    assert connector.connections[0].closed


# Up


@pytest.mark.gen_test
async def test_audio_from_before_the_connection_is_sent_first_and_its_delivery_is_told(
    connector: FakeConnector, ears: Ears
) -> None:
    gate = asyncio.Event()
    connector.answers = [gate]
    async with linked(connector, ears) as link:
        link.send_audio(speech(0.7, 5000), mark=1)
        link.send_audio(speech(0.2, 6000), mark=2)
        assert link.backlog_s == pytest.approx(0.9)
        assert ears.events == []
        gate.set()
        assert await link.wait_ready(1.0)
        link.send_audio(speech(0.1, 7000), mark=3)
        await ears.hears(AudioDelivered, 3)
        assert ears.events == [LinkReady(), *(AudioDelivered(mark) for mark in (1, 2, 3))]
        assert connector.connections[0].pcm == speech(0.7, 5000) + speech(0.2, 6000) + speech(0.1, 7000)
        assert max(len(item[1]) for item in connector.connections[0].sent) <= 16_000
        assert link.backlog_s == 0.0


@pytest.mark.gen_test
async def test_more_audio_than_is_kept_is_refused(connector: FakeConnector) -> None:
    connector.answers = [asyncio.Event()]
    async with linked(connector, policy=replace(FAST, max_backlog_s=1.0)) as link:
        link.send_audio(speech(0.9))
        with pytest.raises(AudioTooFast):
            link.send_audio(speech(0.2))
        assert link.backlog_s == pytest.approx(0.9)


@pytest.mark.gen_test
async def test_a_mark_without_audio_is_told_in_its_turn(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears) as link:
        link.send_audio(speech(0.6), mark=1)
        link.send_audio(b"", mark=2)
        await ears.hears(AudioDelivered, 2)
        assert [event.mark for event in ears.all(AudioDelivered)] == [1, 2]
        assert len(connector.connections[0].sent) == 2


@pytest.mark.gen_test
async def test_text_and_turn_marks_keep_their_order_among_audio(connector: FakeConnector) -> None:
    async with linked(connector, turn_detection="manual") as link:
        link.activity_start()
        link.send_audio(speech(0.1))
        link.activity_end()
        link.send_text("hello")
        connection = await connector.connection()
        await until(lambda: len(connection.sent) == 4)
        assert [item[0] for item in connection.sent] == ["activity_start", "audio", "activity_end", "text"]


# Somebody must end the turn


@pytest.mark.gen_test
async def test_silence_follows_a_stream_that_has_stopped_and_ends_with_the_turn(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        link.send_audio(speech(0.1))
        connection = await connector.connection()
        await hold(link, lambda: connection.silence_s == 0.0, 0.15)
        await until(lambda: connection.silence_s > 0.05)
        connection.say(InputTranscript("hi"), VOICE, TurnComplete())
        await ears.hears(TurnComplete)
        so_far = connection.silence_s
        await hold(link, lambda: connection.silence_s == so_far, 0.2)
        assert so_far < 0.3


@pytest.mark.gen_test
async def test_silence_that_nobody_notices_has_an_end(connector: FakeConnector) -> None:
    async with linked(connector) as link:
        link.send_audio(speech(0.1))
        connection = await connector.connection()
        await until(lambda: connection.silence_s > 0.29)
        await hold(link, lambda: connection.silence_s == pytest.approx(0.3), 0.2)
        assert ("audio_stream_end",) not in connection.sent


@pytest.mark.gen_test
async def test_silence_comes_in_real_time(connector: FakeConnector) -> None:
    async with linked(connector) as link:
        link.send_audio(speech(0.1))
        connection = await connector.connection()
        await until(lambda: connection.silence_s > 0.29)
        began_at, ended_at = connection.sent_at[1], connection.sent_at[-1]
        assert ended_at - began_at >= 0.27


@pytest.mark.gen_test
async def test_an_end_of_stream_brings_the_first_of_it_at_once(connector: FakeConnector) -> None:
    async with linked(connector) as link:
        link.send_audio(speech(0.1))
        link.end_of_stream()
        connection = await connector.connection()
        await until(lambda: connection.silence_s >= 0.1)
        assert connection.sent_at[1] - connection.sent_at[0] < 0.05


@pytest.mark.gen_test
async def test_two_utterances_that_wait_are_kept_apart_by_silence(connector: FakeConnector) -> None:
    gate = asyncio.Event()
    connector.answers = [gate]
    async with linked(connector) as link:
        link.send_audio(speech(0.1, 5000))
        link.end_of_stream()
        link.send_audio(speech(0.1, 6000))
        link.end_of_stream()
        gate.set()
        connection = await connector.connection()
        await until(lambda: connection.silence_s >= 0.2)
        kinds = ["real" if any(item[1]) else "silence" for item in connection.sent]
        assert kinds[:3] == ["real", "silence", "real"] or kinds[:4] == ["real", "silence", "silence", "real"]


@pytest.mark.gen_test
async def test_where_audio_stream_end_is_honoured_it_follows_the_silence(connector: FakeConnector) -> None:
    async with linked(connector, honours_audio_stream_end=True) as link:
        link.send_audio(speech(0.1))
        connection = await connector.connection()
        await until(lambda: ("audio_stream_end",) in connection.sent)
        assert connection.silence_s == pytest.approx(0.3)


@pytest.mark.gen_test
async def test_where_no_trailing_audio_is_needed_audio_stream_end_comes_alone(
    connector: FakeConnector,
) -> None:
    async with linked(connector, honours_audio_stream_end=True, needs_trailing_audio=False) as link:
        link.send_audio(speech(0.1))
        link.end_of_stream()
        connection = await connector.connection()
        await until(lambda: len(connection.sent) == 2)
        assert connection.sent[1] == ("audio_stream_end",)


@pytest.mark.gen_test
async def test_a_running_recorder_hears_no_silence_between_its_chunks(connector: FakeConnector) -> None:
    async with linked(connector) as link:
        connection = await connector.connection()
        for _ in range(12):
            link.send_audio(speech(0.08))
            await asyncio.sleep(0.08)
            assert connection.silence_s == 0.0


@pytest.mark.gen_test
async def test_manual_turns_get_no_silence(connector: FakeConnector) -> None:
    async with linked(connector, turn_detection="manual") as link:
        link.activity_start()
        link.send_audio(speech(0.1))
        link.end_of_stream()
        connection = await connector.connection()
        await until(lambda: len(connection.sent) == 2)
        await hold(link, lambda: len(connection.sent) == 2, 0.5)


# Down


@pytest.mark.gen_test
async def test_events_come_in_order_and_late_audio_of_an_interrupted_turn_does_not(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears):
        connection = await connector.connection()
        connection.say(InputTranscript("hi"), VOICE, OutputTranscript("hello"))
        connection.say(Interrupted())
        connection.say(VOICE)
        connection.say(TurnComplete())
        connection.say(ResumptionHandle(None))
        connection.say(ResumptionHandle("h1"))
        await ears.hears(ResumptionHandle)
        assert ears.events == [
            LinkReady(),
            InputTranscript("hi"),
            VOICE,
            OutputTranscript("hello"),
            Interrupted(),
            TurnComplete(),
            ResumptionHandle("h1"),
        ]


@pytest.mark.gen_test
async def test_the_last_words_of_a_connection_that_takes_nothing_more_are_heard(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        connection = await connector.connection()
        for _ in range(50):
            connection.say(OutputTranscript("x"))
        connection.cut()
        link.send_audio(speech(0.1))
        await ears.hears(LinkReconnecting)
        assert len(ears.all(OutputTranscript)) == 50


@pytest.mark.gen_test
async def test_an_empty_turn_is_nudged_where_the_policy_says_so(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears, policy=replace(FAST, nudge="Please answer.")):
        connection = await connector.connection()
        connection.say(InputTranscript("hi"), TurnComplete())
        await until(lambda: ("text", "Please answer.") in connection.sent)
        connection.say(TurnComplete())
        assert (await ears.hears(TurnFailed)).reason == "empty"


# Rotation


@pytest.mark.gen_test
async def test_go_away_is_followed_at_a_quiet_moment_by_handle_and_nothing_is_open_twice(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        old = await connector.connection()
        old.say(ResumptionHandle("h1"))
        old.say(GoAway(30.0))
        new = await connector.connection(1)
        rotated = await ears.hears(LinkRotated)
        assert old.closed
        assert connector.dials[1].open_connections == 0
        assert connector.dials[1].handle == link.handle == "h1"
        assert rotated.resumed
        assert 0 <= rotated.gap_ms < 1000
        assert not ears.all(LinkReconnecting)
        assert not ears.all(GoAway)
        link.send_audio(speech(0.1), mark=1)
        await ears.hears(AudioDelivered)
        assert new.real_pcm == speech(0.1)


@pytest.mark.gen_test
async def test_an_open_exchange_is_finished_first(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears) as link:
        connection = await connector.connection()
        connection.say(ResumptionHandle("h1"), InputTranscript("hi"), VOICE)
        connection.say(GoAway(30.0))
        await hold(link, lambda: len(connector.dials) == 1, 0.3)
        connection.say(VOICE, TurnComplete())
        await connector.connection(1)
        assert not ears.all(TurnFailed)


@pytest.mark.gen_test
async def test_a_moment_that_cannot_be_resumed_is_not_quiet(connector: FakeConnector) -> None:
    async with linked(connector) as link:
        connection = await connector.connection()
        connection.say(ResumptionHandle("h1"), ResumptionHandle(None), GoAway(30.0))
        await hold(link, lambda: len(connector.dials) == 1, 0.3)
        connection.say(ResumptionHandle("h2"))
        await connector.connection(1)
        assert connector.dials[1].handle == "h2"


@pytest.mark.gen_test
async def test_the_deadline_does_not_wait_for_quiet_and_speech_is_said_again(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        old = await connector.connection()
        old.say(ResumptionHandle("h1"), GoAway(0.4))
        link.send_audio(speech(0.3, 5000), mark=1)
        await ears.hears(AudioDelivered)
        new = await connector.connection(1)
        link.send_audio(speech(0.1, 6000), mark=2)
        await ears.hears(AudioDelivered, 2)
        assert old.real_pcm == speech(0.3, 5000)
        assert new.real_pcm == speech(0.3, 5000) + speech(0.1, 6000)
        assert [event.mark for event in ears.all(AudioDelivered)] == [1, 2]


@pytest.mark.gen_test
async def test_a_connection_is_left_before_it_is_too_old(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears, max_connection_age_s=0.8):
        await connector.connection(2, timeout_s=3.0)
        ages = [
            second.at - first.at for first, second in zip(connector.dials, connector.dials[1:], strict=False)
        ]
        assert all(0.3 < age < 0.8 for age in ages)
        assert not ears.all(LinkReconnecting)


@pytest.mark.gen_test
async def test_audio_is_kept_while_there_is_no_connection(connector: FakeConnector, ears: Ears) -> None:
    gate = asyncio.Event()
    connector.answers = [None, gate]
    async with linked(connector, ears) as link:
        (await connector.connection()).say(ResumptionHandle("h1"), GoAway(0.0))
        await until(lambda: len(connector.dials) == 2)
        assert not link.connected
        for number in range(10):
            link.send_audio(speech(0.1, 1000 + number), mark=number)
        assert link.backlog_s == pytest.approx(1.0)
        gate.set()
        await ears.hears(AudioDelivered, 10)
        pcm = connector.connections[1].real_pcm
        assert pcm == b"".join(speech(0.1, 1000 + number) for number in range(10))


@pytest.mark.gen_test
async def test_a_model_that_sends_no_handle_is_rotated_with_its_history(
    connector: FakeConnector, ears: Ears
) -> None:
    history = (HistoryTurn("user", "hi"), HistoryTurn("model", "hello"))
    told: list[HistoryTurn] = []
    async with linked(connector, ears, history=lambda: tuple(told)):
        first = await connector.connection()
        told.extend(history)
        first.say(GoAway(0.0))
        new = await connector.connection(1)
        rotated = await ears.hears(LinkRotated)
        assert not rotated.resumed
        assert connector.dials[1].seeded
        assert new.sent == [("history", history)]
        assert first.sent == []


# Faults


@pytest.mark.parametrize(
    "error",
    [ConnectionClosed(1006), ConnectionClosed(1000), ConnectionClosed(1011, "Internal error occurred.")],
)
@pytest.mark.gen_test
async def test_a_lost_connection_is_replaced_by_handle(
    connector: FakeConnector, ears: Ears, error: UpstreamError
) -> None:
    async with linked(connector, ears):
        old = await connector.connection()
        old.say(ResumptionHandle("h1"))
        await ears.hears(ResumptionHandle)
        old.cut(error)
        await ears.hears(LinkRotated)
        assert [dial.handle for dial in connector.dials] == [None, "h1"]
        reconnecting = ears.all(LinkReconnecting)
        assert [event.attempt for event in reconnecting] == [1]


@pytest.mark.gen_test
async def test_a_handle_that_is_refused_is_followed_by_a_fresh_connection_with_the_history(
    connector: FakeConnector, ears: Ears
) -> None:
    history = (HistoryTurn("user", "hi"),)
    connector.answers = [ConnectionClosed(1008, "BidiGenerateContent session not found")]
    async with linked(connector, ears, handle="old", history=lambda: history) as link:
        assert await link.wait_ready(2.0)
        assert [(dial.handle, dial.seeded) for dial in connector.dials] == [("old", False), (None, True)]
        assert connector.connections[0].sent == [("history", history)]
        assert link.handle is None


@pytest.mark.gen_test
async def test_a_turn_that_is_said_again_is_not_in_the_seed_too(connector: FakeConnector, ears: Ears) -> None:
    history = (
        HistoryTurn("user", "hi"),
        HistoryTurn("model", "hello"),
        HistoryTurn("user", "what time is it"),
    )
    told: list[HistoryTurn] = []
    async with linked(connector, ears, history=lambda: told) as link:
        link.send_text("what time is it")
        first = await connector.connection()
        await until(lambda: first.sent)
        told.extend(history)
        first.cut()
        second = await connector.connection(1)
        await until(lambda: len(second.sent) == 2)
        assert second.sent == [("history", history[:2]), ("text", "what time is it")]


@pytest.mark.gen_test
async def test_a_backend_that_never_resumes_is_asked_afresh(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears):
        first = await connector.connection()
        first.say(ResumptionHandle("h1"))
        await ears.hears(ResumptionHandle)
        connector.answers = [ConnectionClosed(1011, "Internal error occurred.")] * 3
        first.cut()
        assert not (await ears.hears(LinkRotated)).resumed
        assert [dial.handle for dial in connector.dials] == [None, "h1", "h1", "h1", None]


@pytest.mark.gen_test
async def test_a_refusal_under_way_ends_the_link(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears):
        (await connector.connection()).cut(ConnectionClosed(1007, "API key not valid."))
        assert type((await ears.hears(LinkFailed)).error) is UpstreamRefused
        assert len(connector.dials) == 1


@pytest.mark.gen_test
async def test_a_quota_that_is_used_up_under_way_is_waited_for_and_told_in_the_end(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears):
        first = await connector.connection()
        connector.answers = [UpstreamQuota(retry_after_s=0.1)]
        first.cut(ConnectionClosed(1011, "RESOURCE_EXHAUSTED", retry_after_s=0.1))
        second = await connector.connection(1)
        assert connector.dials[2].at - connector.dials[1].at >= 0.1
        connector.default = UpstreamQuota(retry_after_s=5.0)
        second.cut()
        failed = await ears.hears(LinkFailed)
        assert type(failed.error) is UpstreamQuota
        assert failed.error.retry_after_s == 5.0


@pytest.mark.gen_test
async def test_an_outage_ends_after_at_most_six_dials(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears):
        connection = await connector.connection()
        connector.default = UpstreamUnavailable()
        connection.cut()
        failed = await ears.hears(LinkFailed)
        assert type(failed.error) is UpstreamUnavailable
        assert len(connector.dials) <= 6
        assert [event.attempt for event in ears.all(LinkReconnecting)] == list(range(1, len(connector.dials)))


@pytest.mark.gen_test
async def test_speech_that_was_not_answered_is_said_again_after_a_fault_and_ended_again(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        old = await connector.connection()
        link.send_audio(speech(0.5), mark=1)
        link.end_of_stream()
        await until(lambda: old.silence_s > 0.2)
        old.cut()
        new = await connector.connection(1)
        await until(lambda: new.silence_s > 0.2)
        assert new.real_pcm == speech(0.5)
        assert ears.all(AudioDelivered) == [AudioDelivered(1)]


@pytest.mark.gen_test
async def test_a_turn_whose_words_are_known_is_said_again_in_writing(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        old = await connector.connection()
        link.send_audio(speech(0.5), mark=1)
        await ears.hears(AudioDelivered)
        old.say(InputTranscript("what time is it"))
        await ears.hears(InputTranscript)
        old.cut()
        new = await connector.connection(1)
        await until(lambda: new.sent)
        assert new.sent[0] == ("text", "what time is it")
        assert new.real_pcm == b""


@pytest.mark.gen_test
async def test_a_reply_that_was_cut_off_is_told_and_not_asked_for_again(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        old = await connector.connection()
        link.send_audio(speech(0.2), mark=1)
        await ears.hears(AudioDelivered)
        old.say(InputTranscript("hi"), VOICE)
        old.cut()
        await ears.hears(LinkRotated)
        assert ears.events[-4:-2] == [TurnFailed("lost"), TurnComplete()]
        await hold(link, lambda: connector.connections[1].real_pcm == b"", 0.1)


@pytest.mark.gen_test
async def test_an_activity_that_is_open_is_begun_again(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears, turn_detection="manual") as link:
        old = await connector.connection()
        link.activity_start()
        link.send_audio(speech(0.2), mark=1)
        await ears.hears(AudioDelivered)
        old.cut()
        new = await connector.connection(1)
        link.activity_end()
        await until(lambda: len(new.sent) == 3)
        assert new.sent == [("activity_start",), ("audio", speech(0.2)), ("activity_end",)]


# Stalls


@pytest.mark.gen_test
async def test_a_turn_that_stalls_is_tried_on_another_connection_and_then_has_failed(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        first = await connector.connection()
        first.say(ResumptionHandle("h1"))
        link.send_text("hello")
        second = await connector.connection(1)
        assert ears.all(LinkReconnecting) == [LinkReconnecting(1, "stalled")]
        await until(lambda: second.sent == [("text", "hello")])
        assert (await ears.hears(TurnFailed)).reason == "stalled"
        await ears.hears(TurnComplete)
        assert len(connector.dials) == 2


@pytest.mark.gen_test
async def test_a_dead_connection_is_noticed_by_speech_that_gets_no_sign_of_life(
    connector: FakeConnector, ears: Ears
) -> None:
    async with linked(connector, ears) as link:
        await connector.connection()
        link.send_audio(speech(0.3))
        second = await connector.connection(1)
        await until(lambda: second.real_pcm == speech(0.3))
        second.say(InputTranscript("hi"), VOICE, TurnComplete())
        await ears.hears(TurnComplete)
        assert not ears.all(TurnFailed)


@pytest.mark.gen_test
async def test_a_quiet_room_is_no_stall(connector: FakeConnector) -> None:
    async with linked(connector) as link:
        await connector.connection()
        for _ in range(10):
            link.send_audio(quiet(0.1))
            await asyncio.sleep(0.1)
        assert len(connector.dials) == 1


@pytest.mark.gen_test
async def test_a_reply_that_never_completes_is_completed(connector: FakeConnector, ears: Ears) -> None:
    async with linked(connector, ears):
        (await connector.connection()).say(InputTranscript("hi"), VOICE, GenerationComplete())
        await ears.hears(TurnComplete)
        assert len(connector.dials) == 1
        assert not ears.all(TurnFailed)
