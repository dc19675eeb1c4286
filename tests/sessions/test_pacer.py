"""The pacer: never further ahead of playback than it may, and silent at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from support import until

from tornado_live.sessions.pacer import Pacer
from tornado_live.sessions.transcript import Exchange

EXCHANGE = Exchange("t1", 0)
PIECE = bytes(4800)
"""100 ms."""


@pytest.mark.gen_test
async def test_the_lead_is_released_at_once_and_the_rest_as_it_is_played() -> None:
    released: list[float] = []
    pacer = Pacer(0.3, lambda exchange, pcm: released.append(time.monotonic()))
    began = time.monotonic()
    for _ in range(6):
        pacer.add(EXCHANGE, PIECE)
    assert len(released) == 4
    await pacer.played(EXCHANGE)
    assert [round(at - began, 1) for at in released[4:]] == [0.1, 0.2]


@pytest.mark.gen_test
async def test_after_a_pause_the_lead_begins_anew() -> None:
    released: list[bytes] = []
    pacer = Pacer(0.1, lambda exchange, pcm: released.append(pcm))
    pacer.add(EXCHANGE, PIECE)
    await asyncio.sleep(0.3)
    for _ in range(2):
        pacer.add(EXCHANGE, PIECE)
    assert len(released) == 3


@pytest.mark.gen_test
async def test_dropped_audio_is_never_released() -> None:
    released: list[bytes] = []
    pacer = Pacer(0.1, lambda exchange, pcm: released.append(pcm))
    for _ in range(5):
        pacer.add(EXCHANGE, PIECE)
    played = asyncio.create_task(pacer.played(EXCHANGE))
    await asyncio.sleep(0)
    pacer.drop()
    await played
    before = len(released)
    await asyncio.sleep(0.3)
    assert len(released) == before


@pytest.mark.gen_test
async def test_an_exchange_without_waiting_audio_has_been_played() -> None:
    pacer = Pacer(0.1, lambda exchange, pcm: None)
    for _ in range(5):
        pacer.add(EXCHANGE, PIECE)
    await asyncio.wait_for(pacer.played(Exchange("t2", 0)), 0.05)
    await until(lambda: True)
    pacer.drop()
