"""WAV: the headers that live recordings really have, and those that attackers write."""

from __future__ import annotations

import struct

import pytest
from codec_kit import decoded, encoded, fed, opened, pieces

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioBomb, AudioError, AudioMalformed, UnsupportedAudio

SOUND = bytes(range(200)) * 5
"""500 samples of 16 bits."""


def chunk(name: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    """A RIFF chunk, padded; `size` lies about its size."""
    return struct.pack("<4sI", name, len(body) if size is None else size) + body + bytes(len(body) % 2)


def fmt(tag: int = 1, channels: int = 1, rate_hz: int = 16_000, bits: int = 16, extra: bytes = b"") -> bytes:
    frame = channels * bits // 8
    fixed = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame % 2**32, frame % 2**16, bits)
    return chunk(b"fmt ", fixed + extra)


def wav(*chunks: bytes, form: bytes = b"RIFF", size: int = 0) -> bytes:
    return form + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 1000, 400])
def test_size_that_is_unknown_or_stale_is_not_believed(size: int) -> None:
    stream = wav(fmt(), chunk(b"data", SOUND, size))
    for cut in (1, 7, len(stream)):
        assert fed(opened(stream), pieces(stream, cut)) == SOUND


@pytest.mark.parametrize("sound", [SOUND, SOUND[:-1]], ids=["even", "odd"])
def test_chunks_around_the_samples_are_not_heard(sound: bytes) -> None:
    text = chunk(b"LIST", b"INFOISFT\6\0\0\0Lavf5\0")
    stream = wav(chunk(b"JUNK", bytes(27)), fmt(), text, chunk(b"data", sound), text, chunk(b"id3 ", b"xyz"))
    for cut in (1, 7, len(stream)):
        assert fed(opened(stream), pieces(stream, cut)) == SOUND[: len(sound) // 2 * 2]


def test_header_after_the_samples_begins_a_new_stream() -> None:
    first = wav(fmt(), chunk(b"data", SOUND))
    second = wav(fmt(7, 1, 16_000, 8), chunk(b"data", bytes(100)))
    decoder = opened(first)
    assert fed(decoder, pieces(first + second, 33)) == SOUND + decoded(second)
    assert decoder.info is not None
    assert decoder.info.codec == "mulaw"


def test_extensible_header_names_its_sub_format() -> None:
    guid = struct.pack("<H", 3) + bytes.fromhex("000000001000800000AA00389B71")
    extra = struct.pack("<HHI", 22, 32, 4) + guid
    stream = wav(fmt(0xFFFE, 1, 16_000, 32, extra), chunk(b"data", struct.pack("<4f", 0.0, 0.5, -0.5, 1.0)))
    decoder = opened(stream)
    assert struct.unpack("<4h", decoder.decode(stream)) == (0, 16_384, -16_384, 32_767)
    assert decoder.info is not None
    assert decoder.info.codec == "f32le"


def test_wide_header_gives_the_size() -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, 400, 200, 0))
    for form in (b"RF64", b"BW64"):
        stream = wav(
            sizes, fmt(), chunk(b"data", SOUND[:400], 0xFFFFFFFF), chunk(b"LIST", bytes(4)), form=form
        )
        assert decoded(stream) == SOUND[:400]


def test_init_segment_makes_a_continuation_decodable() -> None:
    stream = encoded("wav", "-ar", "48000", "-ac", "2")
    before = opened(stream)
    before.decode(stream[:10_000])
    after = opened(before.init_segment)
    assert after.decode(before.init_segment) == b""
    assert after.info == before.info
    assert len(after.decode(stream[-40_000:])) > 0


@pytest.mark.parametrize("name", [b"LIST", b"fmt ", b"ds64"])
def test_header_of_any_cut_is_bounded(name: bytes) -> None:
    with pytest.raises(AudioBomb):
        decoded(wav(fmt(), chunk(name, b"", 2**31), bytes(1000)))
    many = wav(*[chunk(b"JUNK", bytes(1000))] * 80)
    with pytest.raises(AudioBomb):
        fed(opened(many), pieces(many, 100))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (fmt(rate_hz=1), UnsupportedAudio),
        (fmt(rate_hz=0), UnsupportedAudio),
        (fmt(rate_hz=2_000_000_000), UnsupportedAudio),
        (fmt(channels=65_535), AudioMalformed),
        (fmt(channels=9), UnsupportedAudio),
        (fmt(channels=0), UnsupportedAudio),
        (fmt(bits=0), UnsupportedAudio),
        (fmt(bits=12), UnsupportedAudio),
        (fmt(tag=0x55), UnsupportedAudio),
        (fmt(tag=0xFFFE), UnsupportedAudio),
        (chunk(b"fmt ", bytes(8)), AudioMalformed),
        (b"", AudioMalformed),
    ],
)
def test_bad_header_is_a_named_error(header: bytes, error: type[AudioError]) -> None:
    with pytest.raises(error):
        decoded(wav(header, chunk(b"data", bytes(400_000))))


def test_samples_of_the_target_format_pass_through_untouched() -> None:
    decoder = opened(wav(fmt()))
    decoder.decode(wav(fmt(), chunk(b"data", b"", 0)))
    assert decoder.decode(SOUND) is SOUND


def test_limits_are_the_caller_s() -> None:
    stream = wav(fmt(rate_hz=44_100))
    with pytest.raises(UnsupportedAudio, match=r"44100.*8000 to 20000"):
        fed(opened(stream, limits=DecodeLimits(max_rate_hz=20_000)), [stream, chunk(b"data", SOUND)])
