"""Every format, cut anywhere: identical PCM, as many samples as the ffmpeg command finds, the same sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from codec_kit import decoded, encoded, fed, likeness_db, opened, pieces, recording, reference


@dataclass(frozen=True)
class Case:
    """A stream in one format.

    Attributes:
        chunks: makes it, as a recorder would deliver it.
        likeness: how close to the ffmpeg command's PCM it has to be, in dB.
    """

    name: str
    container: str
    codec: str
    chunks: Callable[[], list[bytes]]
    label: str
    likeness: float = 60.0
    rate_hz: int = 16_000
    channels: int = 1
    input_options: tuple[str, ...] = ()


def _recorded(name: str, container: str, codec: str, likeness: float = 60.0) -> Case:
    return Case(name, container, codec, lambda: recording(name), container, likeness)


def _made(
    container: str, codec: str, *options: str, suffix: str = "", likeness: float = 60.0, name: str = ""
) -> Case:
    def chunks() -> list[bytes]:
        return list(pieces(encoded(suffix or container, *options), 4000))

    return Case(
        name or f"{container} {codec} {' '.join(options)}", container, codec, chunks, container, likeness
    )


def _fragmented(codec: str, *options: str, likeness: float = 60.0) -> Case:
    safari = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
    return _made("mp4", codec, *options, *safari, likeness=likeness, name=f"mp4 {' '.join(options)}")


def _raw(name: str, ffmpeg_format: str, rate_hz: int, channels: int, likeness: float) -> Case:
    sound = ("-ar", str(rate_hz), "-ac", str(channels))

    def chunks() -> list[bytes]:
        return list(pieces(encoded("raw", *sound, "-f", ffmpeg_format), 4001))

    given = ("-f", ffmpeg_format, *sound)
    return Case(
        f"raw {name} {rate_hz} {channels}", "raw", name, chunks, name, likeness, rate_hz, channels, given
    )


CASES = [
    _recorded("webm_opus_250ms", "webm", "opus"),
    _recorded("webm_opus_1000ms", "webm", "opus"),
    _recorded("webm_opus_20ms", "webm", "opus"),
    _recorded("webm_opus_24k_250ms", "webm", "opus", likeness=30.0),
    _recorded("webm_opus_stereo_250ms", "webm", "opus"),
    _recorded("webm_opus_restarted_250ms", "webm", "opus"),
    _recorded("webm_pcm_250ms", "webm", "f32le"),
    _recorded("ff_webm_opus_250ms", "webm", "opus"),
    _made("webm", "opus", "-c:a", "libopus", "-b:a", "24k", likeness=30.0),
    _made("webm", "opus", "-c:a", "libopus", "-ac", "2", "-ar", "48000", likeness=30.0),
    _made("webm", "f32le", "-c:a", "pcm_f32le", "-ar", "48000", suffix="mka"),
    _made("webm", "s16le", "-c:a", "pcm_s16le", "-ar", "44100", "-ac", "2", suffix="mka"),
    _made("webm", "vorbis", "-c:a", "libvorbis", "-ar", "48000"),
    _made("webm", "flac", "-c:a", "flac", "-ar", "48000", suffix="mka"),
    _recorded("ff_ogg_opus_250ms", "ogg", "opus"),
    _made("ogg", "opus", "-c:a", "libopus", "-b:a", "24k", likeness=30.0),
    _made("ogg", "opus", "-c:a", "libopus", "-frame_duration", "2.5", "-ac", "2", "-ar", "48000"),
    _made("ogg", "vorbis", "-c:a", "libvorbis", "-ar", "44100", "-page_duration", "200000"),
    _made("ogg", "flac", "-c:a", "flac", "-ar", "48000"),
    _recorded("mp4_opus_250ms", "mp4", "opus"),
    _fragmented("aac", "-c:a", "aac", "-ar", "44100"),
    _fragmented("aac", "-c:a", "aac", "-ar", "48000", "-ac", "2", "-frag_duration", "200000"),
    _fragmented("opus", "-c:a", "libopus", "-frag_duration", "200000", likeness=30.0),
    _fragmented("flac", "-c:a", "flac", "-ar", "48000", "-strict", "-2"),
    _fragmented("alac", "-c:a", "alac", "-ar", "44100"),
    _fragmented("mp3", "-c:a", "libmp3lame", "-ar", "44100"),
    _made("m4a", "aac", "-c:a", "aac", "-ar", "44100"),
    _made("m4a", "aac", "-c:a", "aac", "-ar", "44100", "-movflags", "+faststart"),
    _made("m4a", "alac", "-c:a", "alac", "-ar", "48000", "-ac", "2"),
    _made("mp3", "mp3", "-c:a", "libmp3lame"),
    _made("mp3", "mp3", "-c:a", "libmp3lame", "-ar", "44100", "-ac", "2", "-write_xing", "0"),
    _made("mp3", "mp3", "-c:a", "libmp3lame", "-ar", "48000", "-q:a", "5", "-id3v2_version", "0"),
    _made(
        "mp3",
        "mp3",
        "-c:a",
        "libmp3lame",
        "-ar",
        "24000",
        "-write_id3v1",
        "1",
        "-metadata",
        "title=x",
        likeness=35.0,
    ),
    _made("aac", "aac", "-c:a", "aac", "-ar", "44100", suffix="adts"),
    _made("aac", "aac", "-c:a", "aac", "-ar", "16000", "-ac", "2", suffix="adts"),
    _made("flac", "flac", "-c:a", "flac", "-ar", "44100", "-ac", "2"),
    _made("flac", "flac", "-c:a", "flac", "-ar", "48000", "-sample_fmt", "s32"),
    _made("wav", "s16le", "-c:a", "pcm_s16le", "-ar", "44100", "-ac", "2"),
    _made("wav", "s16le", "-c:a", "pcm_s16le"),
    _made("wav", "s16le", "-c:a", "pcm_s16le", "-ac", "6", "-ar", "48000"),
    _made("wav", "s24le", "-c:a", "pcm_s24le", "-ar", "48000", "-ac", "2"),
    _made("wav", "s32le", "-c:a", "pcm_s32le", "-ar", "22050"),
    _made("wav", "f32le", "-c:a", "pcm_f32le", "-ar", "48000"),
    _made("wav", "f64le", "-c:a", "pcm_f64le", "-ar", "96000"),
    _made("wav", "u8", "-c:a", "pcm_u8", "-ar", "8000", likeness=50.0),
    _made("wav", "mulaw", "-c:a", "pcm_mulaw", "-ar", "8000", likeness=50.0),
    _made("wav", "alaw", "-c:a", "pcm_alaw", "-ar", "8000", likeness=50.0),
    _made("wav", "s16le", "-rf64", "always"),
    _raw("s16le", "s16le", 48_000, 1, 60.0),
    _raw("s16le", "s16le", 16_000, 1, 99.0),
    _raw("s24le", "s24le", 44_100, 2, 60.0),
    _raw("s32le", "s32le", 32_000, 1, 60.0),
    _raw("f32le", "f32le", 48_000, 8, 60.0),
    _raw("f64le", "f64le", 16_000, 1, 60.0),
    _raw("u8", "u8", 11_025, 1, 50.0),
    _raw("mulaw", "mulaw", 8_000, 1, 50.0),
    _raw("alaw", "alaw", 8_000, 2, 50.0),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name.replace(" ", "_"), scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def whole(case: Case) -> bytes:
    """The stream in one piece."""
    return b"".join(case.chunks())


@pytest.fixture(scope="module")
def pcm(case: Case, whole: bytes) -> bytes:
    """What comes out where the stream is fed at once."""
    return decoded(whole, case.label, case.rate_hz, case.channels)


def test_stream_is_found_to_be_what_it_is(case: Case, whole: bytes) -> None:
    decoder = opened(whole[:8192], case.label, case.rate_hz, case.channels)
    fed(decoder, [whole])
    assert decoder.info is not None
    assert (decoder.info.container, decoder.info.codec, decoder.info.lost_bytes) == (
        case.container,
        case.codec,
        0,
    )


@pytest.mark.parametrize("size", [1, 7, 960, None], ids=["1", "7", "960", "as_recorded"])
def test_any_cut_gives_identical_pcm(case: Case, whole: bytes, pcm: bytes, size: int | None) -> None:
    cut = case.chunks() if size is None else list(pieces(whole, size))
    decoder = opened(whole[:8192], case.label, case.rate_hz, case.channels)
    assert fed(decoder, cut) == pcm


def test_sample_count_is_that_of_the_ffmpeg_command(case: Case, whole: bytes, pcm: bytes) -> None:
    assert len(pcm) == len(reference(whole, *case.input_options))


def test_sound_is_that_of_the_ffmpeg_command(case: Case, whole: bytes, pcm: bytes) -> None:
    assert likeness_db(pcm, reference(whole, *case.input_options)) >= case.likeness
