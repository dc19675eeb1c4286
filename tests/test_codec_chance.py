"""Cuts, losses, repeats and damage at places that Hypothesis chooses."""

from __future__ import annotations

import functools
import itertools

import pytest
from codec_kit import decoded, encoded, fed, opened, recording
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tornado_live.errors import AudioError

FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "100000")
MS = 32  # bytes of PCM

chance = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

pytestmark = pytest.mark.slow


@functools.cache
def stream(name: str) -> bytes:
    if "_" in name:
        return b"".join(recording(name)[:12])
    made = {
        "aac in mp4": ("mp4", "-c:a", "aac", *FRAGMENTED),
        "vorbis in ogg": ("ogg", "-c:a", "libvorbis"),
        "pcm in matroska": ("mka", "-c:a", "pcm_s16le"),
        "wav": ("wav", "-ar", "22050", "-ac", "2"),
        "mp3": ("mp3", "-c:a", "libmp3lame"),
        "adts": ("adts", "-c:a", "aac"),
        "flac": ("flac", "-c:a", "flac"),
    }
    return encoded(*made[name])


NAMES = [
    "webm_opus_250ms", "ff_webm_opus_250ms", "ff_ogg_opus_250ms", "mp4_opus_250ms", "aac in mp4",
    "vorbis in ogg", "pcm in matroska", "wav", "mp3", "adts", "flac",
]  # fmt: skip
OPUS = NAMES[:4]
UNIT_MS = {
    "webm_opus_250ms": 60,
    "ff_webm_opus_250ms": 20,
    "ff_ogg_opus_250ms": 280,
    "mp4_opus_250ms": 360,
}
"""What is lost as a whole: a packet, a page, a fragment."""

places = st.lists(st.floats(0, 1), max_size=12)
flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=40)


def cut(data: bytes, at: list[float]) -> list[bytes]:
    bounds = [0, *sorted(int(place * len(data)) for place in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("name", NAMES)
@chance
@given(at=places)
def test_any_cut_gives_identical_pcm(name: str, at: list[float]) -> None:
    data = stream(name)
    assert fed(opened(data), cut(data, at)) == decoded(data)


@pytest.mark.parametrize("name", OPUS)
@chance
@given(at=st.floats(0.2, 0.9), size=st.integers(1, 4000))
def test_loss_costs_what_was_lost_and_the_packets_or_pages_that_it_touched(
    name: str, at: float, size: int
) -> None:
    data = stream(name)
    begin = int(at * len(data))
    seconds_lost = size / len(data) * len(decoded(data)) / 32_000
    pcm = fed(opened(data), [data[:begin], data[begin + size :]])
    assert (len(decoded(data)) - len(pcm)) / MS <= 2.5 * 1000 * seconds_lost + 2 * UNIT_MS[name]


@pytest.mark.parametrize("name", OPUS)
@chance
@given(at=st.floats(0.2, 0.9), size=st.integers(1, 4000))
def test_repeated_bytes_are_hardly_heard_twice(name: str, at: float, size: int) -> None:
    data = stream(name)
    begin = int(at * len(data))
    pcm = fed(opened(data), [data[: begin + size], data[begin:]])
    assert len(pcm) <= len(decoded(data)) + 360 * MS  # a cluster's timestamp may have been among them


@pytest.mark.parametrize("name", NAMES)
@chance
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=40), at=places
)
def test_damage_raises_audio_errors_or_nothing(
    name: str, flips: list[tuple[float, int]], at: list[float]
) -> None:
    damaged = bytearray(stream(name))
    for place, mask in flips:
        damaged[int(place * len(damaged))] ^= mask
    try:
        pcm = fed(opened(bytes(damaged), "webm" if name in OPUS else ""), cut(bytes(damaged), at))
    except AudioError:
        return
    assert len(pcm) <= 40 * len(decoded(stream(name)))
