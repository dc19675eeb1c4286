"""Raw samples: what the labels mean, and that nothing clips, wraps or slips by a byte."""

from __future__ import annotations

import array
import math
import struct
from pathlib import Path

import pytest
from codec_kit import decoded, fed, likeness_db, opened, pieces, recording

from tornado_live.errors import UnsupportedAudio

TONE = [round(12_000 * math.sin(2 * math.pi * 440 * i / 16_000)) for i in range(1600)]
S16 = struct.pack(f"<{len(TONE)}h", *TONE)


def as_big_endian(data: bytes, width: int = 2) -> bytes:
    return b"".join(data[i : i + width][::-1] for i in range(0, len(data), width))


def s24(values: list[int]) -> bytes:
    return b"".join((value << 8).to_bytes(3, "little", signed=True) for value in values)


@pytest.mark.parametrize(
    ("label", "data"),
    [
        ("pcm", S16),
        ("PCM", S16),
        ("s16le", S16),
        ("linear16", S16),
        ("audio/pcm", S16),
        ("audio/pcm;rate=16000", S16),
        ("audio/pcm; rate=16000; channels=1; encoding=s16le", S16),
        ('audio/pcm;rate="16000"', S16),
        ("audio/L16;rate=16000", as_big_endian(S16)),
        ("audio/l16;rate=16000;endianness=little-endian", S16),
        ("audio/L16;codec=pcm;rate=16000", S16),
        ("s24le", s24(TONE)),
        ("audio/L24;rate=16000", as_big_endian(s24(TONE), 3)),
        ("s32le", struct.pack(f"<{len(TONE)}i", *[value << 16 for value in TONE])),
        ("f32le", struct.pack(f"<{len(TONE)}f", *[value / 32_768 for value in TONE])),
        ("f64le", struct.pack(f"<{len(TONE)}d", *[value / 32_768 for value in TONE])),
        ("audio/pcm;encoding=f32le", struct.pack(f"<{len(TONE)}f", *[value / 32_768 for value in TONE])),
    ],
)
def test_label_says_what_the_samples_are(label: str, data: bytes) -> None:
    assert decoded(data, label) == S16
    assert fed(opened(data, label), pieces(data, 5)) == S16


@pytest.mark.parametrize("label", ["audio/basic", "audio/PCMU", "audio/PCMA"])
def test_telephone_labels_mean_8_khz_whatever_is_declared(label: str) -> None:
    assert len(decoded(bytes([0x55]) * 800, label, rate_hz=16_000)) == 2 * 1600


@pytest.mark.parametrize(
    ("label", "loud"), [("mulaw", bytes([0x80, 0x00, 0xFF])), ("alaw", bytes([0xAA, 0x2A, 0xD5]))]
)
def test_companded_samples_follow_g711(label: str, loud: bytes) -> None:
    highest, lowest, zero = array.array("h", decoded(loud, label))
    assert (highest, lowest) == ((32_124, -32_124) if label == "mulaw" else (32_256, -32_256))
    assert abs(zero) <= 8


@pytest.mark.parametrize("label", ["audio/pcm;rate=1", "audio/pcm;rate=-1", "audio/pcm;rate=9e9",
                                   "audio/pcm;channels=99", "audio/pcm;encoding=s17le"])  # fmt: skip
def test_label_that_asks_for_the_impossible_is_refused(label: str) -> None:
    with pytest.raises(UnsupportedAudio):
        decoded(S16, label)


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(0, 1), (1, 1), (-5, 1), (2**31, 1), (16_000, 0), (16_000, 9)]
)
def test_declared_rate_and_channels_are_checked(rate_hz: int, channels: int) -> None:
    with pytest.raises(UnsupportedAudio):
        decoded(S16, "pcm", rate_hz, channels)


@pytest.mark.parametrize("encoding", ["f32le", "f64le"])
def test_floats_over_full_scale_are_clipped_and_never_wrapped(encoding: str) -> None:
    code = "f" if encoding == "f32le" else "d"
    values = [1.2, -1.2, 1.999, 2.0, -2.5, 70_000.0, -70_000.0, 3e38, -3e38, math.inf, -math.inf]
    pcm = array.array("h", decoded(struct.pack(f"<{len(values)}{code}", *values), encoding))
    assert [(sample > 0) - (sample < 0) for sample in pcm] == [1 if value > 0 else -1 for value in values]
    assert min(map(abs, pcm)) >= 32_767


def test_not_a_number_is_silence() -> None:
    data = struct.pack("<4f", 0.5, math.nan, 70_000.0, -0.5)
    assert struct.unpack("<4h", decoded(data, "f32le")) == (16_384, 0, 32_767, -16_384)


@pytest.mark.parametrize("channels", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_full_scale_in_all_channels_does_not_clip_when_mixed_down(channels: int, rate_hz: int) -> None:
    loud = struct.pack("<h", 30_000) * channels * rate_hz
    settled = array.array("h", decoded(loud, "pcm", rate_hz, channels))[100:-100]
    assert max(settled) <= 30_000 + 2


@pytest.mark.parametrize("name", ["pcm_s16le_48k_250ms", "pcm_s16le_16k_250ms"])
def test_worklet_s_chunks_come_out_whole(name: str) -> None:
    chunks = recording(name)
    rate_hz = 48_000 if "48k" in name else 16_000
    pcm = fed(opened(chunks[0], "pcm", rate_hz), chunks)
    assert len(pcm) == round(sum(map(len, chunks)) * 16_000 / rate_hz / 2) * 2


def test_samples_of_the_target_format_pass_through_untouched() -> None:
    assert opened(S16, "pcm").decode(S16) is S16


def test_no_more_than_2_1_ms_are_held_back_by_the_resampler() -> None:
    second = bytes(2 * 48_000)
    assert len(opened(second, "pcm", 48_000).decode(second)) >= 2 * (16_000 - 34)


def test_tones_above_8_khz_do_not_come_back_as_lower_ones() -> None:
    high = [round(16_000 * math.sin(2 * math.pi * 8_500 * i / 48_000)) for i in range(48_000)]
    pcm = array.array("h", decoded(struct.pack("<48000h", *high), "pcm", 48_000))
    assert max(map(abs, pcm[200:-200])) <= 2


def test_speech_band_passes_unchanged() -> None:
    low = [round(16_000 * math.sin(2 * math.pi * 1_000 * i / 48_000)) for i in range(48_000)]
    pcm = decoded(struct.pack("<48000h", *low), "pcm", 48_000)
    assert likeness_db(pcm, struct.pack("<16000h", *low[::3])) > 75


def test_resampling_starts_no_threads() -> None:
    """FFmpeg would start one a core for every stream."""
    chunk = recording("pcm_s16le_48k_250ms")[0]
    threads = len(list(Path("/proc/self/task").iterdir()))
    decoders = [opened(chunk, "pcm", 48_000) for _ in range(10)]
    assert all(decoder.decode(chunk) for decoder in decoders)
    assert len(list(Path("/proc/self/task").iterdir())) <= threads
