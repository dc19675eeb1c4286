"""The way in: order, gaps, credit, slices, streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import until

from sessions.fakes import FakeCodecs
from tornado_live.audio import Codec, DecodeLimits, StreamFormat
from tornado_live.errors import AudioHeaderMissing, AudioMalformed, AudioTooFast
from tornado_live.plugins import CodecRegistry
from tornado_live.sessions import intake as intake_module
from tornado_live.sessions.intake import Chunk, Intake, IntakePolicy

PCM = StreamFormat("pcm")
ECHO = StreamFormat("echo")


class Taken:
    """What came out of an intake."""

    def __init__(
        self, codecs: FakeCodecs | CodecRegistry | None = None, policy: IntakePolicy = IntakePolicy(), **more
    ) -> None:
        self.pieces: list[tuple[bytes, int | None]] = []
        self.gaps: list[tuple[int, int]] = []
        self.codecs = codecs or FakeCodecs()
        self.intake = Intake(
            self.codecs,
            policy,
            lambda pcm, seq: self.pieces.append((pcm, seq)),
            lambda first, last: self.gaps.append((first, last)),
            **more,
        )

    def offer(self, data: bytes, seq: int | None = None, declared: StreamFormat = PCM) -> Chunk:
        chunk = Chunk(data, declared, seq)
        self.intake.offer(chunk)
        return chunk

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for pcm, _ in self.pieces)


@pytest.mark.gen_test
async def test_unnumbered_chunks_pass_in_the_order_they_came() -> None:
    taken = Taken()
    for data in (b"aa", b"bb", b"cc"):
        await taken.offer(data).done
    assert taken.pcm == b"aabbcc"


@pytest.mark.gen_test
async def test_numbered_chunks_wait_for_those_before_them() -> None:
    taken = Taken()
    late = [taken.offer(b"cc", 2), taken.offer(b"bb", 1)]
    assert not any(chunk.done.done() for chunk in late)
    taken.offer(b"aa", 0)
    await asyncio.gather(*(chunk.done for chunk in late))
    assert taken.pieces == [(b"aa", 0), (b"bb", 1), (b"cc", 2)]


@pytest.mark.gen_test
async def test_a_repeated_number_is_answered_and_not_fed_again() -> None:
    taken = Taken()
    taken.offer(b"aa", 0)
    again = taken.offer(b"aa", 0)
    await again.done
    assert taken.pcm == b"aa"


@pytest.mark.gen_test
async def test_a_chunk_that_never_comes_is_named_and_skipped() -> None:
    taken = Taken()
    taken.offer(b"aa", 0)
    await taken.offer(b"dd", 3).done
    assert taken.gaps == [(1, 2)]
    assert taken.pcm == b"aadd"


@pytest.mark.gen_test
async def test_too_many_early_chunks_skip_the_gap_at_once() -> None:
    taken = Taken()
    for seq in range(1, intake_module.MAX_EARLY_CHUNKS + 2):
        taken.offer(b"xx", seq)
    assert taken.gaps == [(0, 0)]


@pytest.mark.gen_test
async def test_after_a_restart_numbers_go_on_where_the_client_is() -> None:
    taken = Taken(first_seq=None)
    await taken.offer(b"aa", 41).done
    assert (taken.pieces, taken.gaps) == ([(b"aa", 41)], [])


@pytest.mark.gen_test
async def test_a_chunk_without_samples_yet_is_still_acknowledged() -> None:
    taken = Taken()
    taken.offer(b"HE", 0, ECHO)
    await taken.offer(b"ADaa", 1, ECHO).done
    assert taken.pieces == [(b"", 0), (b"aa", 1)]


@pytest.mark.gen_test
async def test_a_new_header_ends_the_stream_before_it() -> None:
    taken = Taken()
    await taken.offer(b"HEADaa", declared=ECHO).done
    await taken.offer(b"HEADbb", declared=ECHO).done
    assert taken.pcm == b"aa<>bb"
    assert taken.codecs.opened == 2


@pytest.mark.gen_test
async def test_a_recorder_that_goes_on_after_a_restart_needs_no_new_header() -> None:
    taken = Taken(init_segment=b"HEAD")
    await taken.offer(b"aa", declared=ECHO).done
    assert taken.pcm == b"aa"


@pytest.mark.gen_test
async def test_a_continuation_without_any_header_is_refused_at_once() -> None:
    taken = Taken()
    with pytest.raises(AudioHeaderMissing):
        await taken.offer(b"aaaa", declared=ECHO).done


@pytest.mark.gen_test
async def test_what_cannot_be_decoded_fails_its_own_chunk_only() -> None:
    taken = Taken()
    await taken.offer(b"aa").done
    with pytest.raises(AudioMalformed):
        await taken.offer(b"b!").done
    await taken.offer(b"cc").done
    assert taken.pcm == b"aacc"


@pytest.mark.gen_test
async def test_a_large_chunk_is_decoded_in_slices_and_acknowledged_once() -> None:
    taken = Taken()
    data = bytes(10) * 10_000
    await taken.offer(data, 0).done
    assert taken.pcm == data
    assert len(taken.pieces) > 5
    assert [seq for _, seq in taken.pieces if seq is not None] == [0]


@pytest.mark.gen_test
async def test_nothing_overtakes_a_chunk_that_is_being_decoded() -> None:
    taken = Taken()
    order: list[str] = []
    large = taken.offer(bytes(50_000))
    taken.intake.after_queued(lambda: order.append(f"after {len(taken.pcm)}"))
    await large.done
    await until(lambda: order)
    assert order == ["after 50000"]


@pytest.mark.gen_test
async def test_a_blocking_codec_is_never_called_on_the_event_loop() -> None:
    taken = Taken(FakeCodecs(blocking=True))
    chunk = taken.offer(b"HEADaa", declared=ECHO)
    assert not chunk.done.done()
    await chunk.done
    assert taken.pcm == b"aa"


SLOW_PLUGIN = """
import time
from tornado_live import hookimpl
from tornado_live.audio import Codec, StreamInfo
from tornado_live.errors import AudioMalformed

class Slow:
    init_segment = b""
    info = StreamInfo("slow", "slow", 16_000, 1)

    def decode(self, data):
        self.damaged = data.endswith(b"!!")
        return data.removeprefix(b"SLOW")

    def flush(self):
        time.sleep(FLUSH_S)
        if self.damaged:
            raise AudioMalformed
        return b"<>"

@hookimpl
def tornado_live_codecs():
    return [Codec("slow", "a test", (), lambda head, declared: head.startswith(b"SLOW"),
                  lambda declared, limits: Slow())]
"""
SLOW = StreamFormat("slow")


def slow_plugin(folder: Path, flush_s: float = 0.1) -> CodecRegistry:
    """The built-in codecs, and a third party's whose `flush` takes its time."""
    (folder / "slow.py").write_text(SLOW_PLUGIN.replace("FLUSH_S", str(flush_s)))
    return CodecRegistry.load(plugins_dir=str(folder))


@contextlib.asynccontextmanager
async def longest_pause() -> AsyncIterator[list[float]]:
    """The longest time for which the event loop called nobody, in seconds, to be read afterwards."""
    pauses: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            pauses.append(time.monotonic() - began)

    ticking = asyncio.create_task(tick())
    longest: list[float] = []
    try:
        yield longest
    finally:
        await asyncio.sleep(0.02)
        ticking.cancel()
        longest.append(max(pauses))


@pytest.mark.gen_test
async def test_end_of_a_blocking_stream_in_mid_session_does_not_stall_the_loop(tmp_path: Path) -> None:
    taken = Taken(slow_plugin(tmp_path, flush_s=1.0))
    acknowledged: list[Chunk] = []
    async with longest_pause() as pause:
        sent = [taken.offer(data, seq, SLOW) for seq, data in enumerate([b"SLOWaa", b"bb", b"SLOWcc", b"dd"])]
        for chunk in sent:
            chunk.done.add_done_callback(lambda _, chunk=chunk: acknowledged.append(chunk))
        await asyncio.gather(*(chunk.done for chunk in sent))
    assert taken.pieces == [(b"aa", 0), (b"bb", 1), (b"<>", None), (b"cc", 2), (b"dd", 3)]
    assert acknowledged == sent
    assert pause[0] < 0.5


@pytest.mark.gen_test
async def test_nothing_overtakes_the_end_of_a_blocking_stream(tmp_path: Path) -> None:
    taken = Taken(slow_plugin(tmp_path))
    await taken.offer(b"SLOWaa", declared=SLOW).done
    next_stream = taken.offer(b"SLOWbb", declared=SLOW)
    after: list[bytes] = []
    taken.intake.after_queued(lambda: after.append(taken.pcm))
    await taken.intake.finish()
    assert next_stream.done.done()
    assert after == [b"aa<>bb"]
    assert taken.pcm == b"aa<>bb<>"


@pytest.mark.gen_test
async def test_end_of_a_blocking_stream_that_cannot_be_decoded_costs_itself_only(tmp_path: Path) -> None:
    taken = Taken(slow_plugin(tmp_path))
    await taken.offer(b"SLOWaa!!", 0, SLOW).done
    await taken.offer(b"SLOWbb", 1, SLOW).done
    assert taken.pieces == [(b"aa!!", 0), (b"bb", 1)]


@pytest.mark.gen_test
async def test_closing_does_not_wait_for_the_end_of_a_blocking_stream(tmp_path: Path) -> None:
    taken = Taken(slow_plugin(tmp_path))
    await taken.offer(b"SLOWaa", declared=SLOW).done
    next_stream = taken.offer(b"SLOWbb", declared=SLOW)
    await asyncio.sleep(0)
    taken.intake.close()
    assert next_stream.done.done()
    assert taken.pcm == b"aa"


class SilentDecoder:
    """Takes everything, gives nothing, and notes the sizes of what it got."""

    blocking, info, init_segment = False, None, b""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def decode(self, data: bytes) -> bytes:
        self.sizes.append(len(data))
        return b""

    def flush(self) -> bytes:
        return b""


class SilentCodecs(FakeCodecs):
    """Has one decoder for all streams."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = SilentDecoder()

    def open(self, codec: Codec, declared: StreamFormat, limits: DecodeLimits) -> SilentDecoder:  # type: ignore[override]
        return self.decoder


@pytest.mark.gen_test
async def test_a_large_chunk_without_audio_is_taken_in_bounded_slices() -> None:
    codecs = SilentCodecs()
    await Taken(codecs).offer(bytes(2**20)).done
    assert sum(codecs.decoder.sizes) == 2**20
    assert max(codecs.decoder.sizes) == intake_module.MAX_SLICE_BYTES


@pytest.mark.gen_test
async def test_audio_over_its_credit_is_held_back_until_the_clock_has_caught_up() -> None:
    taken = Taken(policy=IntakePolicy(credit_rate=10.0, credit_burst_s=1.0))
    began = time.monotonic()
    await taken.offer(bytes(32_000 * 5)).done
    assert 0.2 < time.monotonic() - began < 3.0


@pytest.mark.gen_test
async def test_more_than_may_wait_is_refused_whole() -> None:
    taken = Taken(policy=IntakePolicy(credit_rate=1.0, credit_burst_s=0.0))
    taken.offer(bytes(intake_module.MAX_QUEUED_BYTES - 10))
    with pytest.raises(AudioTooFast):
        taken.offer(bytes(20))
    taken.intake.close()


@pytest.mark.gen_test
async def test_finishing_passes_on_all_that_waits_and_the_stream_s_end() -> None:
    taken = Taken()
    taken.offer(b"HEADaa", 0, ECHO)
    taken.offer(b"cc", 2, ECHO)
    await taken.intake.finish()
    assert taken.pcm == b"aacc<>"
    assert taken.gaps == [(1, 1)]
