"""Speech-like audio in which every second carries a number, so that lost or doubled audio shows as words.

A word lasts one second: 160 ms of silence, then seven tones of 120 ms. The first is the mark of a
beginning, five are the decimal digits of the number, the last is their sum modulo ten. Tones lie between
700 and 1,800 Hz and 100 Hz apart and survive Opus. All audio is 16 kHz, s16le, mono.
"""

from __future__ import annotations

import array
import math

RATE_HZ = 16_000
WORD_S = 1.0
_WORD = 16_000
_GAP = 2_560
_TONE = 1_920
_DIGITS_HZ = tuple(range(800, 1800, 100))
_MARK_HZ = 1_900
_STEP = 4
"""Samples are read at a quarter of the rate: the tones are below its Nyquist frequency of 2 kHz."""


def speak(first: int, count: int, amplitude: float = 0.3) -> bytes:
    """`count` words, numbered from `first`, below 100,000.

    The stream ends in silence only as far as the next word's gap would; VAD needs more to see the end.
    """
    return b"".join(_word(number, amplitude) for number in range(first, first + count))


def tone(seconds: float, amplitude: float = 0.3) -> bytes:
    """A sound that voice activity detection by energy takes for speech and that carries no number."""
    period = array.array(
        "h", (round(amplitude * 32767 * math.sin(2 * math.pi * at / 40)) for at in range(40))
    )
    return period.tobytes() * round(seconds * RATE_HZ / 40)


def word(number: int) -> str:
    """How a number appears in the transcript: `n00042`."""
    return f"n{number:05d}"


def numbers(transcript: str) -> list[int]:
    """The numbers of the words in a transcript, in order; damaged words are left out."""
    words = (token.strip(".,") for token in transcript.split())
    return [int(token[1:]) for token in words if len(token) == 6 and token[0] == "n" and token[1:].isdigit()]


def _word(number: int, amplitude: float) -> bytes:
    digits = [int(digit) for digit in f"{number:05d}"]
    tones = [_MARK_HZ, *(_DIGITS_HZ[digit] for digit in digits), _DIGITS_HZ[sum(digits) % 10]]
    samples = array.array("h", bytes(2 * _GAP))
    peak = amplitude * 32767
    ramp = 80
    for frequency in tones:
        turn = 2 * math.pi * frequency / RATE_HZ
        samples.extend(
            round(peak * min(1.0, at / ramp, (_TONE - at) / ramp) * math.sin(turn * at))
            for at in range(_TONE)
        )
    return samples.tobytes()


def find(pcm: bytes) -> list[tuple[str, int]]:
    """The words in a piece of audio, in order, each with the sample where its first tone begins (to 2.5 ms).

    A word is `n00042`, or `damaged` where it was cut or mixed; there are none where there is no tone.
    Words are found wherever they begin; what lies between two words is not looked at.
    """
    samples = array.array("h", pcm[: len(pcm) // 2 * 2])[::_STEP]
    words = [
        (_read_word(samples[start : start + _WORD // _STEP]), start * _STEP) for start in _onsets(samples)
    ]
    return [(found, start) for found, start in words if found is not None]


def read(pcm: bytes) -> list[str]:
    """The words of `find` without their places."""
    return [found for found, _ in find(pcm)]


def _onsets(samples: array.array[int]) -> list[int]:
    """Where sound begins after at least 80 ms of quiet, in reduced samples, to 2.5 ms."""
    window = 10
    loud = [
        sum(map(abs, samples[at : at + window])) > 300 * window
        for at in range(0, len(samples) - window, window)
    ]
    quiet, onsets = 32, []
    for index, is_loud in enumerate(loud):
        if is_loud and quiet >= 32:
            onsets.append(index * window)
        quiet = 0 if is_loud else quiet + 1
    return onsets


def _read_word(samples: array.array[int]) -> str | None:
    tone = _TONE // _STEP
    found = []
    for index in range(7):
        # The middle of each tone: onsets are a little uncertain and codecs smear the edges.
        part = samples[index * tone + tone // 4 : index * tone + 3 * tone // 4]
        found.append(_strongest(part) if len(part) == tone // 2 else None)
    if found[0] != _MARK_HZ:
        return "damaged" if any(found) else None
    digits = [_DIGITS_HZ.index(hz) if hz in _DIGITS_HZ else None for hz in found[1:]]
    if None in digits:
        return "damaged"
    *number, check = [digit for digit in digits if digit is not None]
    if sum(number) % 10 != check:
        return "damaged"
    return word(int("".join(map(str, number))))


def _strongest(samples: array.array[int]) -> int | None:
    """The tone that holds most of the energy (Goertzel), None if none stands out."""
    energy = sum(sample * sample for sample in samples)
    if energy == 0:
        return None
    best_hz, best = 0, 0.0
    for frequency in (*_DIGITS_HZ, _MARK_HZ):
        coefficient = 2 * math.cos(2 * math.pi * frequency / (RATE_HZ / _STEP))
        before = last = 0.0
        for sample in samples:
            before, last = last, sample + coefficient * last - before
        power = before * before + last * last - coefficient * before * last
        if power > best:
            best_hz, best = frequency, power
    return best_hz if best > 0.4 * energy * len(samples) / 2 else None
