"""MP3, ADTS AAC and FLAC as bare streams."""

from __future__ import annotations

import pytest
from codec_kit import decoded, encoded, fed, opened, pieces, registry

from tornado_live.audio import StreamFormat
from tornado_live.errors import AudioError, AudioMalformed, UnsupportedAudio


def mp3(*options: str) -> bytes:
    return encoded("mp3", "-c:a", "libmp3lame", *options)


def adts() -> bytes:
    return encoded("adts", "-c:a", "aac")


def flac() -> bytes:
    return encoded("flac", "-c:a", "flac")


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_tagged_mp3_is_exactly_as_long_as_what_was_encoded(rate_hz: int) -> None:
    assert len(decoded(mp3("-ar", str(rate_hz)))) == 2 * 16_000


@pytest.mark.parametrize("label", ["mp3", "audio/mpeg", "", "wav"])
@pytest.mark.parametrize("tag", [True, False], ids=["ID3", "bare"])
def test_mp3_is_recognised_by_its_bytes(label: str, tag: bool) -> None:
    stream = mp3("-ar", "44100") if tag else mp3("-ar", "44100", "-id3v2_version", "0", "-write_xing", "0")
    assert stream.startswith(b"ID3") is tag
    codec = registry().recognise(stream, StreamFormat(label))
    assert codec is not None
    assert codec.name == "mp3"


@pytest.mark.parametrize("label", ["aac", "audio/aac", "", "mp3"])
def test_adts_is_recognised_by_its_bytes(label: str) -> None:
    codec = registry().recognise(adts(), StreamFormat(label))
    assert codec is not None
    assert codec.name == "aac"


def test_few_bytes_of_a_sync_word_are_not_enough_without_a_label() -> None:
    stream = mp3("-ar", "44100", "-id3v2_version", "0", "-write_xing", "0")
    assert registry().recognise(stream[:8], StreamFormat()) is None
    codec = registry().recognise(stream[:8], StreamFormat("mp3"))
    assert codec is not None


@pytest.mark.parametrize("make", [mp3, adts], ids=["mp3", "aac"])
def test_stream_that_was_joined_late_is_decoded_from_the_next_frame(make: object) -> None:
    stream = mp3("-ar", "44100") if make is mp3 else adts()
    name = "mp3" if make is mp3 else "aac"
    late = stream[len(stream) // 2 :]
    assert len(decoded(late, name)) > 0.3 * len(decoded(stream, name))


@pytest.mark.parametrize("name", ["mp3", "aac"])
def test_damage_costs_some_frames_and_is_counted(name: str) -> None:
    stream = mp3("-ar", "44100") if name == "mp3" else adts()
    half = len(stream) // 2
    decoder = opened(stream, name)
    pcm = fed(decoder, [stream[:half], bytes(500), stream[half:]])
    assert len(pcm) > 0.7 * len(decoded(stream, name))
    assert decoder.info is not None
    assert decoder.info.lost_bytes >= 400


def test_broken_tag_is_passed_over() -> None:
    stream = mp3("-ar", "44100", "-id3v2_version", "0", "-write_xing", "0")
    assert decoded(b"ID3\xff\xff" + bytes(8) + stream, "mp3") == decoded(stream, "mp3") != b""


@pytest.mark.parametrize("name", ["mp3", "aac"])
def test_stream_that_ends_in_nonsense_is_a_named_error(name: str) -> None:
    stream = mp3() if name == "mp3" else adts()
    with pytest.raises(AudioMalformed):
        fed(opened(stream, name), pieces(stream + bytes(300_000), 1000))


def test_pcm_that_looks_like_a_sync_word_stays_pcm() -> None:
    loud = b"\xff\xfb\x90\x64" + bytes(413)
    codec = registry().recognise(loud * 5, StreamFormat("pcm"))
    assert codec is not None
    assert codec.name == "pcm"


def test_kept_init_segment_makes_a_flac_continuation_decodable() -> None:
    stream = flac()
    before = opened(stream)
    before.decode(stream)
    pcm = fed(opened(before.init_segment), [before.init_segment, stream[len(stream) // 2 :]])
    assert len(pcm) > 0.2 * len(decoded(stream))


def test_flac_silence_is_no_bomb() -> None:
    silent = encoded("flac", "-af", "volume=0,apad=whole_dur=100", "-c:a", "flac")
    assert len(decoded(silent)) == 100 * 2 * 16_000


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"fLaC\x01\0\0\x22" + bytes(34), AudioMalformed),
        (b"fLaC\0\0\0\x21" + bytes(34), AudioMalformed),
        (b"fLaC\0\0\0\x22" + bytes(34), UnsupportedAudio),
        (b"fLaC\x80\0\0\x22" + bytes(10) + b"\xff\xff\xff\xff" + bytes(20), UnsupportedAudio),
    ],
)
def test_bad_flac_header_is_a_named_error(data: bytes, error: type[AudioError]) -> None:
    with pytest.raises(error):
        decoded(data)
