"""WebM: what recorders really do, what networks lose, and what attackers send."""

from __future__ import annotations

import functools
import struct

import pytest
from codec_kit import decoded, encoded, fed, fed_until_error, opened, pieces, recording, reference

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioBomb, AudioError, AudioMalformed, UnsupportedAudio

CHROMIUM = ["webm_opus_250ms", "webm_opus_1000ms"]
BROWSERS = [*CHROMIUM, "ff_webm_opus_250ms"]
MS = 32  # bytes of PCM


def element(name: int, body: bytes = b"", size: int | None = None) -> bytes:
    """An EBML element; `size` lies about its size."""
    length = (len(body) if size is None else size) | 1 << 56
    return name.to_bytes((name.bit_length() + 7) // 8) + length.to_bytes(8) + body


def track(codec: str = "A_OPUS", private: bytes = b"", rate: float = 48_000.0, channels: int = 1) -> bytes:
    audio = element(0xB5, struct.pack(">f", rate)) + element(0x9F, channels.to_bytes(4))
    fields = (
        element(0xD7, b"\1") + element(0x83, b"\2") + element(0x86, codec.encode()) + element(0xE1, audio)
    )
    return element(0xAE, fields + (element(0x63A2, private) if private else b""))


def header(*tracks: bytes) -> bytes:
    tracks = tracks or (track(),)
    begin = element(0x1A45DFA3, element(0x4282, b"webm")) + bytes.fromhex("18538067 01FFFFFFFFFFFFFF")
    return begin + element(0x1654AE6B, b"".join(tracks)) + bytes.fromhex("1F43B675 01FFFFFFFFFFFFFF E78100")


def block(payload: bytes, time: int = 0, flags: int = 0x80, track_number: int = 1) -> bytes:
    body = bytes([0x80 | track_number]) + struct.pack(">hB", time, flags) + payload
    return b"\xa3" + bytes([0x80 | len(body)]) + body if len(body) < 127 else element(0xA3, body)


SILENCE = b"\xfb\x03" + bytes(57)
"""An Opus packet of 60 ms."""

DTX = bytes([15 << 3 | 3, 6])
"""Two bytes that claim 120 ms."""


def opus_head(channels: int = 1, family: int = 0) -> bytes:
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, channels, 0, 48_000, 0, family) + bytes(2)


# Recorders


@pytest.mark.parametrize("name", BROWSERS)
def test_audio_comes_out_with_the_chunk_that_completes_its_packet(name: str) -> None:
    chunks = recording(name)
    decoder = opened(chunks[0])
    so_far = 0
    for i, chunk in enumerate(chunks):
        so_far += len(decoder.decode(chunk))
        assert so_far == len(decoded(b"".join(chunks[: i + 1])))


def test_first_chunk_may_be_a_single_byte() -> None:
    first, second, *_ = recording("webm_opus_20ms")
    assert first == b"\x1a"
    decoder = opened(first + second)
    assert decoder.decode(first) == b""
    assert decoder.decode(second) != b""


def test_recorder_that_was_restarted_gives_both_recordings() -> None:
    chunks = recording("webm_opus_restarted_250ms")
    (restart,) = [i for i, chunk in enumerate(chunks) if i and chunk.startswith(b"\x1a\x45\xdf\xa3")]
    parts = [b"".join(chunks[:restart]), b"".join(chunks[restart:])]
    assert decoded(b"".join(chunks)) == decoded(parts[0]) + decoded(parts[1])
    assert all(len(decoded(part)) > 2_000 * MS for part in parts)


@pytest.mark.parametrize("name", BROWSERS)
def test_recorder_restarted_within_the_stream_begins_anew(name: str) -> None:
    whole = b"".join(recording(name))
    assert decoded(whole + whole) == 2 * decoded(whole)


@pytest.mark.parametrize("name", BROWSERS)
@pytest.mark.parametrize("lost", [1, 2, 5, 8])
def test_lost_chunk_costs_its_own_audio_only(name: str, lost: int) -> None:
    chunks = recording(name)
    decoder = opened(chunks[0])
    complete = sum(len(decoder.decode(chunk)) for chunk in chunks)
    its_own = complete - len(fed(opened(chunks[0]), chunks[:lost] + chunks[lost + 1 :]))
    span = 1020 if "1000" in name else 300
    assert 0 < its_own <= (span + 60) * MS


@pytest.mark.parametrize("seed", range(60))
def test_bytes_lost_anywhere_cost_little_and_are_counted(seed: int) -> None:
    whole = b"".join(recording("webm_opus_250ms"))
    begin = 4000 + seed * 2997
    decoder = opened(whole)
    pcm = fed(decoder, [whole[:begin], whole[begin + 500 :]])
    assert len(decoded(whole)) - len(pcm) <= 180 * MS
    info = decoder.info
    assert info is not None
    assert 0 < info.lost_bytes < 6000


def test_repeated_chunk_is_not_heard_twice() -> None:
    chunks = recording("ff_webm_opus_250ms")
    decoder = opened(chunks[0])
    pcm = fed(decoder, [*chunks[:5], chunks[4], *chunks[5:]])
    assert pcm == decoded(b"".join(chunks))
    assert decoder.info is not None
    assert decoder.info.lost_bytes == len(chunks[4])


@pytest.mark.parametrize("name", BROWSERS)
@pytest.mark.parametrize("resumed_at", [1, 4, 9])
def test_kept_init_segment_makes_a_continuation_decodable(name: str, resumed_at: int) -> None:
    chunks = recording(name)
    before = opened(chunks[0])
    held = sum(len(before.decode(chunk)) for chunk in chunks[:resumed_at])
    after = opened(before.init_segment)
    pcm = fed(after, [before.init_segment, *chunks[resumed_at:]])
    assert abs(held + len(pcm) - len(decoded(b"".join(chunks)))) <= 7 * MS  # pre-skip applies again


def test_stream_without_a_single_frame_of_audio_is_silent_and_no_error() -> None:
    assert decoded(header()) == b""


def test_block_groups_discard_what_they_say() -> None:
    made = encoded("webm", "-c:a", "libopus", "-t", "1.001")
    assert b"\x75\xa2" in made
    assert len(decoded(made)) == len(reference(made))


def test_video_beside_the_audio_is_skipped() -> None:
    options = (
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x64",
        "-shortest",
        "-c:a",
        "libopus",
        "-c:v",
        "libvpx",
        "-g",
        "5",
    )
    made = encoded("webm", *options)
    assert decoded(made) == fed(opened(made), pieces(made, 100))
    assert len(decoded(made)) == len(reference(made))


@pytest.mark.parametrize("flags", [0x82, 0x84, 0x86], ids=["xiph", "fixed", "ebml"])
def test_laced_frames_are_taken_apart(flags: int) -> None:
    sizes = {0x82: b"\x3b\x3b", 0x84: b"", 0x86: b"\xbb\xbf"}[flags]
    laced = block(b"\2" + sizes + 3 * SILENCE, flags=flags)
    plain = b"".join(block(SILENCE, time) for time in (0, 60, 120))
    assert decoded(header() + laced) == decoded(header() + plain) != b""


def test_sizes_are_believed_in_every_length() -> None:
    long = element(0xA3, b"\x81\0\0\x80" + SILENCE)
    assert decoded(header() + long) == decoded(header() + block(SILENCE)) != b""


# Trouble


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (header()[:40] + b"\0" * 40, AudioMalformed),
        (b"\x1a\x45\xdf\xa3" + bytes(60), AudioMalformed),
        (element(0x1A45DFA3, b"", size=2**40), AudioBomb),
        (element(0x1A45DFA3, element(0x4282, b"matrix")), UnsupportedAudio),
        (header() + b"\xa3" + struct.pack(">Q", 1 << 56 | 2**50) + b"\x81\0\0\x80", AudioBomb),
        (element(0x1A45DFA3) + element(0xEC, size=2**50), AudioBomb),
        (header() + element(0x1254C367, size=2**50), AudioBomb),
        (header(track("A_AC3")), UnsupportedAudio),
        (header(track("A_VORBIS", b"nonsense")), AudioMalformed),
        (header(track(private=opus_head(255))), UnsupportedAudio),
        (header(track(private=opus_head(255, 255))), UnsupportedAudio),
        (header(track(private=b"OpusHead")), AudioMalformed),
        (header(track("A_PCM/INT/LIT", rate=1.0) + b""), UnsupportedAudio),
        (header(track("A_FLAC", bytes(42))), UnsupportedAudio),
        (header(track("A_VORBIS", channels=65_535)), UnsupportedAudio),
        (element(0x1A45DFA3) + element(0x1654AE6B, element(0xAE, element(0xD7, b"\1"))), UnsupportedAudio),
        (header() + bytes(200_000), AudioMalformed),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_bad_stream_is_a_named_error(stream: bytes, error: type[AudioError]) -> None:
    with pytest.raises(error):
        decoded(stream)
    with pytest.raises(error):
        fed(opened(stream), pieces(stream, 7))


@functools.cache
def dtx_bombs() -> dict[str, bytes]:
    blocks = b"".join(block(DTX, 120 * i % 30_000) for i in range(4000))
    ebml_lace = b"\xff\x82" + b"\xbf" * 254 + 256 * DTX
    laced = b"".join(block(ebml_lace, i, 0x86) for i in range(40))
    return {"blocks of 2 bytes": header() + blocks, "laced blocks of 2 bytes": header() + laced}


@pytest.mark.parametrize("name", ["blocks of 2 bytes", "laced blocks of 2 bytes"])
def test_packets_that_claim_too_much_are_refused_before_they_are_decoded(name: str) -> None:
    limits = DecodeLimits()
    bomb = dtx_bombs()[name]
    decoder = opened(bomb)
    pcm = fed_until_error(decoder, pieces(bomb, 256), AudioBomb)
    assert len(pcm) / 32_000 < 2 * limits.averaging_bytes * limits.max_seconds_per_byte


@pytest.mark.parametrize("lacing", [b"", b"\xff" + b"\0" * 255], ids=["empty blocks", "empty laced frames"])
def test_empty_frames_hold_no_audio(lacing: bytes) -> None:
    empty = b"".join(block(lacing, i, 0x82 if lacing else 0x80) for i in range(300))
    assert decoded(header() + empty + block(SILENCE, 400)) == decoded(header() + block(SILENCE))


def test_nesting_costs_nothing() -> None:
    clusters = bytes.fromhex("1F43B675 01FFFFFFFFFFFFFF") * 20_000
    assert decoded(header() + clusters + block(SILENCE)) == decoded(header() + block(SILENCE))


def test_nothing_large_is_kept_while_waiting() -> None:
    decoder = opened(header())
    decoder.decode(header()[:-15] + element(0x1254C367, size=40_000_000))
    for _ in range(300):
        assert decoder.decode(bytes(100_000)) == b""


def test_honest_digital_silence_is_no_bomb() -> None:
    quiet = b"".join(
        block(b"\xf8\xff\xfe", i % 30_000) for i in range(6_000)
    )  # 2 minutes of Firefox's silence
    assert len(decoded(header() + quiet)) == 6_000 * 20 * MS
