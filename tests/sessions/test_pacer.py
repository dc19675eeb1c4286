"""The pacer: never further ahead of playback than it may, and silent at once."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from support import until

from tornado_live.audio import REPLY
from tornado_live.sessions.pacer import Pacer
from tornado_live.sessions.transcript import Exchange

EXCHANGE = Exchange("t1", 0)
PIECE = bytes(4800)
"""100 ms."""


@pytest.mark.gen_test
async def test_the_lead_is_released_at_once_and_the_rest_as_it_is_played() -> None:
    released: list[tuple[float, int]] = []
    pacer = Pacer(0.3, lambda exchange, pcm: released.append((time.monotonic(), len(pcm))))
    began = time.monotonic()
    for _ in range(8):
        pacer.add(EXCHANGE, PIECE)
    assert len(released) == 3
    await pacer.played(EXCHANGE)
    seconds = list(itertools.accumulate(REPLY.seconds(size) for _, size in released))
    assert seconds[-1] == pytest.approx(0.8)
    assert max(given - (at - began) for given, (at, _) in zip(seconds, released, strict=True)) <= 0.3


@pytest.mark.gen_test
async def test_after_the_lead_small_pieces_leave_as_larger_ones_without_a_byte_lost() -> None:
    released: list[bytes] = []
    pacer = Pacer(0.4, lambda exchange, pcm: released.append(pcm))
    pieces = [bytes([number]) * 960 for number in range(50)]
    for piece in pieces:
        pacer.add(EXCHANGE, piece)
    at_once = len(released)
    await pacer.played(EXCHANGE)
    assert b"".join(released) == b"".join(pieces)
    assert len(released) - at_once == 3
    assert min(map(len, released[at_once:-1])) >= 9600


@pytest.mark.gen_test
async def test_a_larger_piece_never_joins_two_exchanges() -> None:
    released: list[tuple[Exchange, bytes]] = []
    pacer = Pacer(0.2, lambda exchange, pcm: released.append((exchange, pcm)))
    later = Exchange("t2", 0)
    for exchange in [EXCHANGE] * 4 + [later]:
        pacer.add(exchange, PIECE)
    await pacer.played(later)
    assert [(exchange.id, len(pcm)) for exchange, pcm in released][-2:] == [("t1", 4800), ("t2", 4800)]


@pytest.mark.gen_test
async def test_after_a_pause_the_lead_begins_anew() -> None:
    released: list[bytes] = []
    pacer = Pacer(0.1, lambda exchange, pcm: released.append(pcm))
    pacer.add(EXCHANGE, PIECE)
    await asyncio.sleep(0.3)
    for _ in range(2):
        pacer.add(EXCHANGE, PIECE)
    assert len(released) == 2


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
