"""Streams a recording to a running server, as a microphone would, and collects what is recognised."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from tornado_live.client.base import ClientError, Message, StartOptions
from tornado_live.client.ws import LiveClient

_CHUNK_S = 0.25
_FIRST_CHUNK_BYTES = 4096
_MIN_CHUNK_BYTES, _MAX_CHUNK_BYTES = 256, 64 * 1024
# The server takes audio at twice real time after a burst of 30 s; both a little below that.
_FAST_BURST_S, _FAST_RATE = 25.0, 1.9
_ANSWER_TIMEOUT_S = 30.0
# When nothing is open: how long to wait for speech that is still being recognised.
_QUIET_S, _QUIET_AFTER_ANSWER_S = 5.0, 2.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was said and what the model replied. Until `final` both texts may still change."""

    turn_id: str
    text: str
    reply: str
    final: bool


@dataclass(frozen=True, slots=True)
class Update:
    """How far a transcription is.

    Attributes:
        sent_bytes: of the recording.
        audio_s: seconds of audio in those bytes; 0 where that cannot be told.
        exchanges: all so far, in order; the last one may not be final.
    """

    sent_bytes: int
    audio_s: float
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was recognised in one recording.

    Attributes:
        audio_s: seconds of audio sent; 0 where that cannot be told.
        exchanges: in order. A pause ends one, so a recording may hold several.
    """

    session_id: str
    model: str
    audio_s: float
    exchanges: tuple[Exchange, ...]

    @property
    def text(self) -> str:
        """Everything that was said, on one line."""
        return " ".join(exchange.text for exchange in self.exchanges if exchange.text)

    def as_json(self) -> Message:
        """The object that `transcribe --json` prints; `transcribe --help` names its fields."""
        return {"text": self.text, **asdict(self)}


class AudioMeter(Protocol):
    """Tells how much audio the next bytes of a recording hold."""

    def seconds(self, chunk: bytes) -> float:
        """Seconds that became decodable with `chunk`; 0 for bytes that cannot be decoded."""


async def transcribe(
    recording: io.BufferedIOBase,
    live: LiveClient,
    options: StartOptions,
    meter: AudioMeter,
    *,
    fast: bool = False,
    on_update: Callable[[Update], None] = lambda progress: None,
) -> Transcript:
    """Streams `recording` to its end in a session of its own and returns what was recognised.

    Args:
        recording: a file of any container that the server takes, or standard input.
        live: a connection with no session yet.
        fast: send as fast as the server takes it, instead of in real time.
        on_update: called after each chunk and whenever a text changes.

    Raises:
        ClientError: the server refused, or the connection was lost.
        OSError: the recording cannot be read.
    """
    started = await live.start(**options)
    job = _Job(recording, live, meter, fast, on_update)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(job.listen())
            tasks.create_task(job.stream())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return Transcript(
        session_id=started["session_id"],
        model=started["data"]["model"],
        audio_s=round(job.audio_s, 3),
        exchanges=job.exchanges,
    )


class _Job:
    def __init__(
        self,
        recording: io.BufferedIOBase,
        live: LiveClient,
        meter: AudioMeter,
        fast: bool,
        on_update: Callable[[Update], None],
    ) -> None:
        self._recording = recording
        self._live = live
        self._meter = meter
        self._fast = fast
        self._on_update = on_update
        self._by_turn: dict[str, Exchange] = {}
        self._heard = asyncio.Event()
        self._sent_bytes = 0
        self.audio_s = 0.0

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return tuple(self._by_turn.values())

    async def stream(self) -> None:
        """Sends the whole recording, waits for its last words and ends the session."""
        clock = asyncio.get_running_loop().time
        began_at = clock()
        size = _FIRST_CHUNK_BYTES
        while chunk := await asyncio.to_thread(self._next_chunk, size):
            await self._live.send_audio(chunk)
            self._sent_bytes += len(chunk)
            self._update()
            if self.audio_s > 0:
                bytes_per_second = self._sent_bytes / self.audio_s
                size = min(max(int(bytes_per_second * _CHUNK_S), _MIN_CHUNK_BYTES), _MAX_CHUNK_BYTES)
            await asyncio.sleep(began_at + self._due_s() - clock())
        await self._live.flush()
        await self._last_words()
        await self._live.end()

    async def listen(self) -> None:
        """Keeps the newest texts of each exchange until the session has ended."""
        async for message in self._live:
            if "error" in message:
                raise ClientError(message.get("code", "error"), message["error"])
            if message["type"] == "speech_started":
                self._heard.set()
            elif message["type"] == "transcription_result":
                data = message["data"]
                self._by_turn[data["turnId"]] = Exchange(
                    turn_id=data["turnId"],
                    text=(data["inputTranscription"] or "").strip(),
                    reply=(data["transcript"] or "").strip(),
                    final=data["final"],
                )
                self._heard.set()
                self._update()

    def _next_chunk(self, size: int) -> bytes:
        chunk = self._recording.read1(size)
        self.audio_s += self._meter.seconds(chunk)
        return chunk

    def _due_s(self) -> float:
        """When the next chunk may be sent, in seconds since the first one."""
        if self._fast:
            return max(0.0, (self.audio_s - _FAST_BURST_S) / _FAST_RATE)
        return self.audio_s

    async def _last_words(self) -> None:
        """Returns when every exchange is over and nothing more has come for a while."""
        over_before = self._count_over()
        while True:
            self._heard.clear()
            if self._count_over() < len(self._by_turn):
                wait_s = _ANSWER_TIMEOUT_S
            elif self._count_over() > over_before:
                wait_s = _QUIET_AFTER_ANSWER_S
            else:
                wait_s = _QUIET_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._heard.wait()
            except TimeoutError:
                return

    def _count_over(self) -> int:
        return sum(exchange.final for exchange in self.exchanges)

    def _update(self) -> None:
        self._on_update(Update(self._sent_bytes, self.audio_s, self.exchanges))
