"""The way in: a session's chunks are put in order, held to their credit, decoded and passed on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tornado_live.audio import TARGET, AudioDecoder, Codec, DecodeLimits, StreamFormat, StreamInfo
from tornado_live.errors import AudioError, AudioHeaderMissing, AudioTooFast, LiveError, TooLarge

log = logging.getLogger(__name__)

SLICE_S = 0.3
MIN_SLICE_BYTES = 256
FIRST_SLICE_BYTES = 1024
MAX_SLICE_BYTES = 64 * 2**10
"""Reached by what holds hardly any audio: so many empty elements keep the event loop for some 30 ms."""

MAX_QUEUED_BYTES = 4 * 2**20
MAX_EARLY_CHUNKS = 64
GAP_WAIT_S = 1.0


class OpenedDecoder(AudioDecoder, Protocol):
    """A decoder that raises nothing but LiveError (`guard.GuardedDecoder`).

    Attributes:
        blocking: `decode` and `flush` are to be called on a worker thread.
    """

    blocking: bool


class Codecs(Protocol):
    """What recognises streams and opens their decoders (`plugins.CodecRegistry`)."""

    def recognise(self, head: bytes, declared: StreamFormat, *, ended: bool = False) -> Codec | None: ...

    def begins_stream(self, chunk: bytes, declared: StreamFormat) -> bool: ...

    def open(self, codec: Codec, declared: StreamFormat, limits: DecodeLimits) -> OpenedDecoder: ...


@dataclass(frozen=True, slots=True)
class IntakePolicy:
    """How much audio is taken in, and how fast.

    Attributes:
        credit_rate, credit_burst_s: decoded audio may run ahead of the clock by `credit_burst_s` and
            then grow `credit_rate` seconds a second. None: no credit is counted.
    """

    limits: DecodeLimits = DecodeLimits()
    credit_rate: float | None = 2.0
    credit_burst_s: float = 30.0


@dataclass(slots=True, eq=False)
class Chunk:
    """Bytes of a recording as they came.

    Attributes:
        seq: the client's number of it, from 0; None: in the order of arrival.
        done: resolved when the chunk has been decoded and passed on, or with its LiveError.
        begun: the decoder is the one for it.
    """

    data: bytes
    declared: StreamFormat
    seq: int | None = None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    begun: bool = field(default=False, init=False)


class Intake:
    """Decodes one session's chunks, in order, one stream after the other.

    Args:
        codecs: recognises the streams.
        deliver: takes the PCM of a chunk (`audio.TARGET`) and the chunk's `seq`; may raise LiveError.
        on_gap: told the first and last number of chunks that never came.
        on_repeat: told the number of a chunk that came again.
        init_segment: header of the stream that an earlier process was decoding.
        first_seq: number of the first numbered chunk; None: of whichever comes first.
    """

    def __init__(
        self,
        codecs: Codecs,
        policy: IntakePolicy,
        deliver: Callable[[bytes, int | None], None],
        on_gap: Callable[[int, int], None] = lambda first, last: None,
        on_repeat: Callable[[int], None] = lambda seq: None,
        *,
        init_segment: bytes = b"",
        first_seq: int | None = 0,
    ) -> None:
        self.decoded_s = 0.0
        self.info: StreamInfo | None = None
        self.init_segment = init_segment
        self._codecs = codecs
        self._policy = policy
        self._deliver = deliver
        self._on_gap = on_gap
        self._on_repeat = on_repeat
        self._started_s = time.monotonic()
        self._queue: deque[Chunk | Callable[[], None]] = deque()
        self._queued_bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._in_work: Chunk | None = None
        self._early: dict[int, Chunk] = {}
        self._next_seq: int | None = first_seq
        self._gap_timer: asyncio.TimerHandle | None = None
        self._head = b""
        self._codec: Codec | None = None
        self._decoder: OpenedDecoder | None = None
        self._declared = StreamFormat()
        self._bytes_in = 0
        self._stream_s = 0.0

    def offer(self, chunk: Chunk) -> None:
        """Takes a chunk; `chunk.done` tells how it went.

        Raises:
            AudioTooFast: too much is waiting already; the chunk is not taken.
            TooLarge
        """
        if len(chunk.data) > MAX_QUEUED_BYTES:
            raise TooLarge("The chunk is too large; send a whole recording without session_id.")
        if self._queued_bytes + len(chunk.data) > MAX_QUEUED_BYTES:
            raise AudioTooFast
        if chunk.seq is None:
            self._enqueue(chunk)
            return
        if self._next_seq is None:
            self._next_seq = chunk.seq
        if chunk.seq < self._next_seq or chunk.seq in self._early:
            self._on_repeat(chunk.seq)
            chunk.done.set_result(None)
            return
        if len(self._early) >= MAX_EARLY_CHUNKS:
            self._skip_gap()
        self._early[chunk.seq] = chunk
        self._queued_bytes += len(chunk.data)
        self._release_early()

    def after_queued(self, action: Callable[[], None]) -> None:
        """Calls `action` when all chunks taken so far have been passed on."""
        if self._worker is None and not self._queue:
            action()
        else:
            self._queue.append(action)

    async def finish(self) -> None:
        """Decodes what is queued and flushes the stream; nothing may be offered afterwards.

        Raises:
            AudioError: the stream ended before it could be recognised, and cannot be.
        """
        while self._early:
            self._skip_gap()
        if self._worker is not None:
            await self._worker
        if self._decoder is None and self._head:
            short = self._open(self._codecs.recognise(self._head, self._declared, ended=True))
            if short is not None:
                pcm = await asyncio.to_thread(short.decode, self._head)
                self._passed(pcm, len(self._head), None)
        await self._flush_blocking()
        self._end_stream()

    def close(self, error: LiveError | None = None) -> None:
        """Drops everything at once; nobody waits on for a chunk (`error`: why it was not taken)."""
        if self._gap_timer is not None:
            self._gap_timer.cancel()
        if self._worker is not None:
            self._worker.cancel()
        waiting = [item for item in self._queue if isinstance(item, Chunk)]
        for chunk in (*waiting, *self._early.values(), *([self._in_work] if self._in_work else ())):
            _resolve(chunk, error)
        self._queue.clear()
        self._early.clear()
        self._decoder = None

    # Order

    def _release_early(self) -> None:
        waited_for = self._next_seq
        while self._next_seq is not None and (chunk := self._early.pop(self._next_seq, None)) is not None:
            self._next_seq += 1
            self._queued_bytes -= len(chunk.data)
            self._enqueue(chunk)
        if self._gap_timer is not None and (self._next_seq != waited_for or not self._early):
            self._gap_timer.cancel()
            self._gap_timer = None
        if self._early and self._gap_timer is None:
            self._gap_timer = asyncio.get_running_loop().call_later(GAP_WAIT_S, self._skip_gap)

    def _skip_gap(self) -> None:
        if self._gap_timer is not None:
            self._gap_timer.cancel()
            self._gap_timer = None
        first = min(self._early)
        self._on_gap(self._next_seq or 0, first - 1)
        self._next_seq = first
        self._release_early()

    def _enqueue(self, chunk: Chunk) -> None:
        idle = self._worker is None and not self._queue
        if idle and self._fits_one_slice(chunk) and self._decode_at_once(chunk):
            return
        self._queue.append(chunk)
        self._queued_bytes += len(chunk.data)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                if not isinstance(item, Chunk):
                    item()
                    continue
                self._queued_bytes -= len(item.data)
                self._in_work = item
                await self._decode_slowly(item)
        finally:
            self._worker = None

    # Decoding

    def _fits_one_slice(self, chunk: Chunk) -> bool:
        return len(chunk.data) <= self._slice_bytes and self._debt_s() <= 0

    @property
    def _slice_bytes(self) -> int:
        """So many encoded bytes hold about `SLICE_S` of this stream's audio, or less."""
        if self._stream_s < SLICE_S:
            slice_bytes = max(FIRST_SLICE_BYTES, self._bytes_in)
        else:
            slice_bytes = max(MIN_SLICE_BYTES, int(SLICE_S * 1.5 * self._bytes_in / self._stream_s))
        return min(MAX_SLICE_BYTES, slice_bytes)

    def _debt_s(self) -> float:
        """Seconds until the decoded audio is within its credit."""
        policy = self._policy
        if policy.credit_rate is None:
            return 0.0
        elapsed_s = time.monotonic() - self._started_s
        return (self.decoded_s - policy.credit_burst_s) / policy.credit_rate - elapsed_s

    def _decode_at_once(self, chunk: Chunk) -> bool:
        """False: a decoder is to be called that must not be on the event loop."""
        if self._is_blocking():
            return False
        try:
            if self._needs_decoder(chunk):
                self._end_stream()
                self._begin(chunk)
            if self._is_blocking():
                return False
            pcm = self._decoder.decode(self._take_head(chunk)) if self._decoder is not None else b""
            self._passed(pcm, len(chunk.data), chunk.seq)
        except LiveError as exc:
            self._failed(chunk, exc)
        else:
            _resolve(chunk)
        return True

    async def _decode_slowly(self, chunk: Chunk) -> None:
        try:
            if self._needs_decoder(chunk):
                await self._end_stream_slowly()
                self._begin(chunk)
            decoder = self._decoder
            if decoder is None:
                self._passed(b"", len(chunk.data), chunk.seq)
            elif decoder.blocking:
                pcm = await asyncio.to_thread(decoder.decode, self._take_head(chunk))
                self._passed(pcm, len(chunk.data), chunk.seq)
            else:
                for piece, last in self._slices(self._take_head(chunk)):
                    if (debt_s := self._debt_s()) > 0:
                        await asyncio.sleep(debt_s)
                    self._passed(decoder.decode(piece), len(piece), chunk.seq if last else None)
                    await asyncio.sleep(0)
        except LiveError as exc:
            self._failed(chunk, exc)
        else:
            _resolve(chunk)

    def _slices(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """The bytes in pieces of some `SLICE_S`, and whether each is the last."""
        start = 0
        while start < len(data):
            end = start + self._slice_bytes
            yield data[start:end], end >= len(data)
            start = end

    def _is_blocking(self) -> bool:
        return self._decoder is not None and self._decoder.blocking

    def _needs_decoder(self, chunk: Chunk) -> bool:
        """Whether the chunk begins a stream or goes on with a header; to be asked once of each."""
        if chunk.begun:
            return False
        chunk.begun = True
        return self._decoder is None or self._ends_stream(chunk.data, chunk.declared)

    def _begin(self, chunk: Chunk) -> None:
        """Opens the decoder of the stream that the chunk belongs to; none while more bytes are needed."""
        declared = chunk.declared
        if not self._head:
            self._bytes_in, self._stream_s = 0, 0.0
        self._head += chunk.data
        self._declared = declared
        try:
            codec = self._codecs.recognise(self._head, declared)
        except AudioHeaderMissing:
            if not self.init_segment:
                raise
            codec = self._codecs.recognise(self.init_segment, declared)
            self._head = self.init_segment + self._head
        self._open(codec)

    def _open(self, codec: Codec | None) -> OpenedDecoder | None:
        if codec is not None:
            self._codec = codec
            self._decoder = self._codecs.open(codec, self._declared, self._policy.limits)
        return self._decoder

    def _ends_stream(self, data: bytes, declared: StreamFormat) -> bool:
        if self._codecs.begins_stream(data, declared):
            return True
        return self._codec is not None and self._codec.headerless and declared != self._declared

    def _take_head(self, chunk: Chunk) -> bytes:
        head, self._head = self._head, b""
        return head or chunk.data

    def _passed(self, pcm: bytes, size_bytes: int, seq: int | None) -> None:
        if self._decoder is not None:
            self.info = self._decoder.info
            self.init_segment = self._decoder.init_segment or self.init_segment
        seconds = TARGET.seconds(len(pcm))
        self.decoded_s += seconds
        self._stream_s += seconds
        self._bytes_in += size_bytes
        if pcm or seq is not None:
            self._deliver(pcm, seq)

    def _end_stream(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is None:
            return
        try:
            self._passed(decoder.flush(), 0, None)
        except LiveError as exc:
            _log_lost_end(exc)

    async def _end_stream_slowly(self) -> None:
        try:
            await self._flush_blocking()
        except LiveError as exc:
            _log_lost_end(exc)
        self._end_stream()

    async def _flush_blocking(self) -> None:
        """Ends the stream, if its decoder must not be called on the event loop."""
        if self._decoder is not None and self._decoder.blocking:
            decoder, self._decoder = self._decoder, None
            self._passed(await asyncio.to_thread(decoder.flush), 0, None)

    def _failed(self, chunk: Chunk, error: LiveError) -> None:
        if isinstance(error, AudioError) and not isinstance(error, AudioTooFast):
            self._decoder, self._head = None, b""
        if not chunk.done.done():
            chunk.done.set_exception(error)


def _log_lost_end(error: LiveError) -> None:
    log.info("stream_end_not_decodable", extra={"code": error.code})


def _resolve(chunk: Chunk, error: LiveError | None = None) -> None:
    if chunk.done.done():
        return
    if error is None:
        chunk.done.set_result(None)
    else:
        chunk.done.set_exception(error)
