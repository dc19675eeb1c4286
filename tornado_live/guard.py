"""What stands between the server and a codec plugin that raises, hangs or returns nonsense.

The core only ever sees `GuardedDecoder`: an `AudioDecoder` that raises nothing but `LiveError`. The
calls of a third party's codec run on threads of their own, each under a deadline, and a codec that
fails three times within a minute is switched off until the server is started again. Built-in codecs
are called directly and stay on: otherwise three malicious streams could take WebM away from everybody.

A thread cannot be stopped from outside: one that hangs stays behind, asleep or spinning, until the
process ends. The third one is the last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn, TypeVar

from tornado_live.audio import AudioDecoder, Codec, StreamInfo
from tornado_live.errors import CodecFailed, LiveError

MAX_FAULTS = 3
FAULT_WINDOW_S = 60.0

SNIFF_DEADLINE_S = 1.0
"""For `sniff` and `open`, for which the event loop waits."""

DECODE_DEADLINE_S = 10.0
"""For `decode` and `flush`, for which a worker thread waits."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class FaultCounter:
    """Counts the faults of each codec and says which of them are switched off."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_FAULTS))
        self._off: set[str] = set()
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        with self._lock:
            times = self._times[name]
            times.append(self._now())
            if len(times) == MAX_FAULTS and times[-1] - times[0] <= FAULT_WINDOW_S:
                self._off.add(name)
                log.error("codec %s is switched off: %d faults within a minute", name, MAX_FAULTS)

    def is_off(self, name: str) -> bool:
        return name in self._off


class GuardedDecoder:
    """A plugin's decoder, with every fault turned into `CodecFailed`, named and counted.

    Attributes:
        codec: the codec that made it.
        blocking: `decode` and `flush` are to be called on a worker thread.
    """

    def __init__(
        self,
        codec: Codec,
        decoder: AudioDecoder,
        faults: FaultCounter | None,
        *,
        deadline_s: float = DECODE_DEADLINE_S,
    ) -> None:
        """`faults` is None for a built-in codec, which is called without a deadline."""
        self.codec = codec
        self.blocking = codec.blocking or faults is not None
        self._decoder = decoder
        self._faults = faults
        self._deadline_s = deadline_s
        self._info: StreamInfo | None = None
        self._init_segment = b""
        self._failed = False

    @property
    def info(self) -> StreamInfo | None:
        """See `AudioDecoder.info`: as it was after the newest chunk."""
        return self._info

    @property
    def init_segment(self) -> bytes:
        """See `AudioDecoder.init_segment`: as it was after the newest chunk."""
        return self._init_segment

    def decode(self, data: bytes) -> bytes:
        """See `AudioDecoder.decode`. Raises `CodecFailed` for whatever is not an `AudioError`."""
        return self._pcm(self._decoder.decode, data)

    def flush(self) -> bytes:
        """See `AudioDecoder.flush`. Raises `CodecFailed` for whatever is not an `AudioError`."""
        return self._pcm(self._decoder.flush)

    def _pcm(self, call: Callable[..., object], *data: bytes) -> bytes:
        if self._failed:
            raise CodecFailed(f"The codec {self.codec.name} has failed on this stream.")
        try:
            if self._faults is None:
                pcm, info, init_segment = self._outcome(call, *data)
            else:
                pcm, info, init_segment = in_time(self._deadline_s, lambda: self._outcome(call, *data))
        except LiveError:
            raise
        except Exception as exc:
            self._fail(exc)
        if not isinstance(pcm, bytes):
            self._fail(TypeError(f"it returned {type(pcm).__name__}, not bytes"))
        if len(pcm) % 2:
            self._fail(ValueError(f"it returned {len(pcm)} bytes, not whole 16-bit samples"))
        if info is not self._info or init_segment is not self._init_segment:
            if not isinstance(info, StreamInfo | None) or not isinstance(init_segment, bytes):
                self._fail(TypeError("its info is no StreamInfo, or its init_segment no bytes"))
            self._info, self._init_segment = info, init_segment
        return pcm

    def _outcome(self, call: Callable[..., object], *data: bytes) -> tuple[object, object, object]:
        return call(*data), self._decoder.info, self._decoder.init_segment

    def _fail(self, exc: Exception) -> NoReturn:
        self._failed = True
        raise codec_failed(self.codec, exc, self._faults) from exc


def codec_failed(codec: Codec, exc: Exception, faults: FaultCounter | None) -> CodecFailed:
    """Logs and counts a fault; returns the error that tells the client, without the details."""
    log.error("codec %s failed: %s: %s", codec.name, type(exc).__name__, exc, exc_info=exc)
    if faults is not None:
        faults.count(codec.name)
    what = "does not answer" if isinstance(exc, TimeoutError) else "failed"
    return CodecFailed(f"The codec {codec.name} {what}; its plugin is broken.")


def in_time(deadline_s: float, call: Callable[[], T]) -> T:
    """Runs `call` on a thread of its own and returns its result.

    Raises:
        TimeoutError: it took longer than `deadline_s`; it is left running.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as exc:
            outcome.set_exception(exc)
        except BaseException as exc:  # a plugin that calls sys.exit() must not end the waiting thread
            outcome.set_exception(RuntimeError(f"{type(exc).__name__} raised"))

    threading.Thread(target=run, name="codec-plugin", daemon=True).start()
    return outcome.result(deadline_s)
