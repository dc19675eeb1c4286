"""Change of sample rate with a windowed-sinc polyphase filter; needs numpy, which comes with the `offline`
extra."""

from __future__ import annotations

import math
from typing import Any

_ZERO_CROSSINGS = 16


class Resampler:
    """s16le mono at one rate in, at another out, as a stream without seams.

    Raises:
        ImportError: numpy is not installed.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        import numpy

        self._np = numpy
        common = math.gcd(rate_in_hz, rate_out_hz)
        self._up = rate_out_hz // common
        self._down = rate_in_hz // common
        # Cut-off at nine tenths of the lower Nyquist frequency, in cycles per input sample.
        cutoff = 0.45 * min(1.0, rate_out_hz / rate_in_hz)
        self._half = math.ceil(_ZERO_CROSSINGS / (2 * cutoff))
        self._phases = self._filter(cutoff)
        self._input: Any = numpy.zeros(self._half, dtype=numpy.float32)
        self._next = self._half * self._up
        self._odd = b""

    def _filter(self, cutoff: float) -> Any:
        """Coefficients by phase: `up` rows of `2 * half` taps, each row of unit gain."""
        np = self._np
        taps = np.arange(-self._half + 1, self._half + 1)
        times = taps[None, :] - np.arange(self._up)[:, None] / self._up
        window = np.kaiser(4097, 8.0)
        shape = np.interp(times / self._half, np.linspace(-1, 1, 4097), window)
        phases = np.sinc(2 * cutoff * times) * shape
        return (phases / phases.sum(axis=1, keepdims=True)).astype(np.float32)

    def process(self, pcm: bytes) -> bytes:
        """The output that is settled by the input so far; the rest follows with later input or `flush`."""
        np = self._np
        pcm = self._odd + pcm
        whole = len(pcm) // 2 * 2
        self._odd = pcm[whole:]
        self._input = np.concatenate(
            [self._input, np.frombuffer(pcm[:whole], dtype="<i2").astype(np.float32)]
        )
        # The last output sample needs `half` input samples after its own place.
        end = (len(self._input) - self._half) * self._up
        places = np.arange(self._next, end, self._down)
        if len(places) == 0:
            return b""
        base = places // self._up
        gathered = self._input[base[:, None] + np.arange(-self._half + 1, self._half + 1)[None, :]]
        samples = (gathered * self._phases[places % self._up]).sum(axis=1)
        self._next = int(places[-1]) + self._down
        used = max(0, self._next // self._up - self._half)
        self._input = self._input[used:]
        self._next -= used * self._up
        output: bytes = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
        return output

    def flush(self) -> bytes:
        """The last samples; the stream is over."""
        return self.process(bytes(2 * self._half))
