"""The link over real sockets and the real SDK, with numbered words: none may be lost, none doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from support import until

from tornado_live.emulator import numbered
from tornado_live.upstream.base import (
    AudioDelivered,
    AudioDelta,
    HistoryTurn,
    InputTranscript,
    LinkReconnecting,
    LinkRotated,
    OutputTranscript,
    TurnComplete,
    TurnFailed,
    UpstreamSetup,
)
from tornado_live.upstream.link import Link
from tornado_live.upstream.models import PROFILES
from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.uplink import silence
from upstream.fakes import Ears
from upstream.real import connector_to, emulator, joined

POLICY = LinkPolicy(backoff_s=(0.05, 0.1))


@asynccontextmanager
async def talking(
    scenario: Mapping[str, Any],
    ears: Ears,
    *,
    model: str = "gemini-3.8-live",
    policy: LinkPolicy = POLICY,
    **options: Any,
) -> AsyncIterator[Link]:
    """A link to an emulator of its own, ready."""
    async with emulator(scenario) as one, connector_to(one) as connector:
        setup = UpstreamSetup(model, modality="audio")
        link = Link(connector, setup, PROFILES[model], ears, policy=policy, **options)
        link.start()
        try:
            assert await link.wait_ready(5.0)
            yield link
        finally:
            await link.stop()


async def record(link: Link, utterances: int, words: int, pause_s: float = 1.25) -> int:
    """A recorder that runs: numbered words and pauses, a chunk every quarter second. Returns its chunks."""
    loop = asyncio.get_running_loop()
    began_at, count = loop.time(), 0
    for number in range(utterances):
        pcm = numbered.speak(number * words + 1, words) + silence(pause_s)
        for start in range(0, len(pcm), 8000):
            link.send_audio(pcm[start : start + 8000], mark=count)
            count += 1
            await asyncio.sleep(max(0.0, began_at + count * 0.25 - loop.time()))
    return count


def heard(ears: Ears) -> list[int]:
    """The numbers of the words in the transcript."""
    return numbered.numbers(" ".join(event.text for event in ears.all(InputTranscript)))


def counted(last: int) -> list[int]:
    return list(range(1, last + 1))


@pytest.mark.gen_test(timeout=20)
async def test_an_utterance_is_heard_and_answered_soon_after_its_end() -> None:
    ears = Ears()
    async with talking({}, ears) as link:
        link.send_audio(numbered.speak(1, 3))
        link.end_of_stream()
        await ears.hears(TurnComplete, timeout_s=2.0)
    assert heard(ears) == [1, 2, 3]
    assert joined(ears.events, OutputTranscript)


@pytest.mark.parametrize("model", PROFILES)
@pytest.mark.slow
@pytest.mark.gen_test(timeout=30)
async def test_a_recorder_that_just_stops_is_answered_by_every_model(model: str) -> None:
    ears = Ears()
    async with talking({}, ears, model=model) as link:
        await record(link, 1, 2, pause_s=0.0)
        await ears.hears(TurnComplete, timeout_s=5.0)
    assert heard(ears) == [1, 2]


@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_go_away_every_two_seconds_loses_no_word_and_no_chunk() -> None:
    ears = Ears()
    async with talking({"model": {"lifetime_s": 3.0, "go_away_s": 2.0}}, ears) as link:
        chunks = await record(link, utterances=6, words=2)
        await until(lambda: len(heard(ears)) >= 12)
    assert heard(ears) == counted(12)
    assert [event.mark for event in ears.all(AudioDelivered)] == list(range(chunks))
    rotations = ears.all(LinkRotated)
    assert len(rotations) >= 5
    assert all(rotation.resumed for rotation in rotations)
    assert sorted(rotation.gap_ms for rotation in rotations)[len(rotations) // 2] < 300
    assert not ears.all(LinkReconnecting)
    assert not ears.all(TurnFailed)


@pytest.mark.parametrize("model", ["gemini-3.8-live", "gemini-2.5-flash-native-audio-latest"])
@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_a_rotation_in_the_middle_of_speech_loses_no_word(model: str) -> None:
    ears = Ears()
    async with talking({"model": {"lifetime_s": 3.3, "go_away_s": 1.0}}, ears, model=model) as link:
        await record(link, utterances=1, words=9)
        await until(lambda: len(heard(ears)) >= 9)
    assert heard(ears) == counted(9)
    assert len(ears.all(LinkRotated)) >= 3
    assert not ears.all(LinkReconnecting)


@pytest.mark.parametrize("model", ["gemini-3.8-live", "gemini-2.5-flash-native-audio-latest"])
@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_connections_cut_without_warning_lose_no_word(model: str) -> None:
    ears = Ears()
    policy = replace(POLICY, max_dials=20)
    scenario = {"connection": {"abort_at": {"after_ms": 2300}}}
    async with talking(scenario, ears, model=model, policy=policy) as link:
        chunks = await record(link, utterances=3, words=3)
        await until(lambda: len(heard(ears)) >= 9)
    assert heard(ears) == counted(9)
    assert [event.mark for event in ears.all(AudioDelivered)] == list(range(chunks))
    assert len(ears.all(LinkRotated)) >= 4


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, ""),
        (1001, ""),
        (1007, "Request contains an invalid argument."),
        (1008, "The operation was aborted."),
        (1008, "Operation is not implemented, or supported, or enabled."),
        (1008, "Requested entity was not found."),
        (1011, "Internal error occurred."),
        (1012, ""),
    ],
)
@pytest.mark.parametrize("spoken", [False, True])
@pytest.mark.gen_test(timeout=20)
async def test_a_close_under_way_is_survived_with_what_was_said(code: int, reason: str, spoken: bool) -> None:
    ears = Ears()
    moment = {"client_message": 3} if spoken else {"after_ms": 50}
    scenario = {"connections": [1], "connection": {"close_at": {**moment, "code": code, "reason": reason}}}
    async with talking(scenario, ears) as link:
        if not spoken:
            await ears.hears(LinkReconnecting)
        link.send_audio(numbered.speak(1, 2))
        link.end_of_stream()
        await ears.hears(TurnComplete)
    assert heard(ears) == [1, 2]
    assert len(ears.all(LinkRotated)) == 1


@pytest.mark.gen_test(timeout=20)
async def test_a_refused_handle_leads_to_a_seeded_connection() -> None:
    ears = Ears()
    reject = {"code": 1008, "reason": "BidiGenerateContent session not found"}
    scenario = {"resumption": {"reject": reject}, "connection": {"close_at": {"after_ms": 100, "code": 1011}}}
    history = [HistoryTurn("user", "hi"), HistoryTurn("model", "hello")]
    async with talking(scenario, ears, history=lambda: history):
        assert not (await ears.hears(LinkRotated)).resumed


@pytest.mark.slow
@pytest.mark.gen_test(timeout=30)
async def test_a_connection_that_is_half_open_is_left() -> None:
    ears = Ears()
    policy = replace(POLICY, stall_s=1.0)
    scenario = {"connections": [1], "connection": {"half_open_at": {"client_message": 2}}}
    async with talking(scenario, ears, policy=policy) as link:
        link.send_audio(numbered.speak(1, 2))
        link.end_of_stream()
        await ears.hears(TurnComplete, timeout_s=10.0)
    assert heard(ears) == [1, 2]
    assert [event.reason for event in ears.all(LinkReconnecting)] == ["stalled"]


@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        ({"empty_turn": True}, ["empty"]),
        ({"turn_complete_reason": "RESPONSE_REJECTED"}, ["rejected"]),
        ({"silent_audio": True}, ["silent"]),
        ({"late_audio": True}, []),
        ({"tiny_chunks": True}, []),
        ({"separate_usage": True}, []),
        ({"reorder_transcripts": True}, []),
        ({"jitter_ms": 50}, []),
    ],
)
@pytest.mark.gen_test(timeout=20)
async def test_a_turn_is_judged_by_what_it_brought(fault: dict[str, Any], failures: list[str]) -> None:
    ears = Ears()
    async with talking({"stream": fault}, ears) as link:
        link.send_text("hello")
        await ears.hears(TurnComplete)
    assert [event.reason for event in ears.all(TurnFailed)] == failures


@pytest.mark.gen_test(timeout=20)
async def test_a_phantom_interruption_does_not_mute_the_next_reply() -> None:
    ears = Ears()
    async with talking({"stream": {"phantom_interrupt": True}}, ears) as link:
        link.send_text("hello")
        await ears.hears(TurnComplete)
        before = len(ears.all(AudioDelta))
        link.send_text("hello")
        await ears.hears(TurnComplete, 2)
        assert len(ears.all(AudioDelta)) > before


@pytest.mark.gen_test(timeout=20)
async def test_two_hundred_links_leave_nothing_behind() -> None:
    async with emulator({}) as one, connector_to(one) as connector:
        before = asyncio.all_tasks()
        for _ in range(4):
            links = [
                Link(connector, UpstreamSetup("x", modality="audio"), PROFILES["gemini-3.8-live"], Ears())
                for _ in range(50)
            ]
            for link in links:
                link.start()
            await asyncio.gather(*(link.wait_ready(10.0) for link in links))
            await asyncio.gather(*(link.stop() for link in links))
        await until(lambda: not one.connections)
        await until(lambda: asyncio.all_tasks() <= before)
        closed = [entry["code"] for entry in one.journal if entry["what"] == "closed"]
    assert closed == [1000] * 200
