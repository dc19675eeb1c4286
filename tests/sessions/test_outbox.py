"""The way out to one connection: one write at a time, in order, and no longer than it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support import until

from tornado_live.errors import LiveError, SlowReader
from tornado_live.sessions import outbox as outbox_module
from tornado_live.sessions.events import Event, Notice, ReplyAudio
from tornado_live.sessions.outbox import Outbox
from tornado_live.sessions.transcript import Exchange


class Wire:
    """A socket that takes frames when it is told to."""

    def __init__(self) -> None:
        self.frames: list[str | bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.stalled: list[LiveError] = []
        self.outbox = Outbox(self._write, self.stalled.append)

    async def _write(self, frame: str | bytes) -> None:
        await self.open.wait()
        self.frames.append(frame)


def event(seq: int, exchange: Exchange | None = None) -> Event:
    body = ReplyAudio(exchange, b"xx") if exchange is not None else Notice("n")
    return Event(seq, 0.0, body)


def numbered(item: Event) -> list[str | bytes]:
    return (
        [f"header {item.seq}", f"samples {item.seq}"]
        if isinstance(item.body, ReplyAudio)
        else [str(item.seq)]
    )


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    return lambda seconds: monkeypatch.setattr(outbox_module, "MAX_BEHIND_S", seconds)


@pytest.mark.gen_test
async def test_everything_is_written_in_the_order_given() -> None:
    wire = Wire()
    wire.outbox.put_event(event(1), numbered)
    wire.outbox.put("between")
    wire.outbox.put_event(event(2, Exchange("t1", 0)), numbered)
    await wire.outbox.drained()
    assert wire.frames == ["1", "between", "header 2", "samples 2"]


@pytest.mark.gen_test
async def test_an_answer_overtakes_what_waits_but_splits_nothing() -> None:
    wire = Wire()
    wire.open.clear()
    for seq in (1, 2):
        wire.outbox.put_event(event(seq, Exchange("t1", 0)), numbered)
    await asyncio.sleep(0)
    wire.outbox.put_first("answer")
    wire.open.set()
    await wire.outbox.drained()
    assert wire.frames == ["header 1", "samples 1", "answer", "header 2", "samples 2"]


@pytest.mark.gen_test
async def test_audio_of_an_interrupted_reply_is_dropped_while_it_waits() -> None:
    wire = Wire()
    wire.open.clear()
    exchange = Exchange("t1", 0)
    wire.outbox.put("first")
    wire.outbox.put_event(event(1, exchange), numbered)
    wire.outbox.put_event(event(2), numbered)
    exchange.cancelled = True
    wire.open.set()
    await wire.outbox.drained()
    assert wire.frames == ["first", "2"]


@pytest.mark.gen_test
async def test_a_reader_that_stops_is_let_go_of_once(shorter: Callable[[float], None]) -> None:
    shorter(0.1)
    wire = Wire()
    wire.open.clear()
    for seq in range(5):
        wire.outbox.put_event(event(seq), numbered)
    await until(lambda: wire.stalled)
    wire.outbox.put("too late")
    await wire.outbox.drained()
    assert [type(error) for error in wire.stalled] == [SlowReader]
    assert wire.frames == []


@pytest.mark.gen_test
async def test_a_reader_that_falls_behind_step_by_step_is_let_go_of(shorter: Callable[[float], None]) -> None:
    shorter(0.2)
    wire = Wire()

    async def slowly(frame: str | bytes) -> None:
        await asyncio.sleep(0.05)
        wire.frames.append(frame)

    outbox = Outbox(slowly, wire.stalled.append)
    for seq in range(20):
        outbox.put_event(event(seq), numbered)
    await until(lambda: wire.stalled)
    assert 1 <= len(wire.frames) <= 6


@pytest.mark.gen_test
async def test_a_large_frame_may_take_as_long_as_a_slow_line_needs(shorter: Callable[[float], None]) -> None:
    shorter(0.05)
    wire = Wire()

    async def slowly(frame: str | bytes) -> None:
        await asyncio.sleep(0.2)
        wire.frames.append(frame)

    outbox = Outbox(slowly, wire.stalled.append)
    outbox.put("x" * outbox_module.SLOWEST_BYTES_PER_S)
    await outbox.drained()
    assert (len(wire.frames), wire.stalled) == (1, [])
