"""MP4: what Chromium and Safari record, whole files, what networks lose, and what attackers send."""

from __future__ import annotations

import struct

import pytest
from codec_kit import decoded, encoded, fed, opened, pieces, recording, registry

from tornado_live.audio import DecodeLimits, StreamFormat
from tornado_live.errors import AudioBomb, AudioError, AudioMalformed, AudioTooLong, UnsupportedAudio

MS = 32  # bytes of PCM
SAFARI = (
    "-c:a",
    "aac",
    "-movflags",
    "frag_keyframe+empty_moov+default_base_moof",
    "-frag_duration",
    "100000",
)


def box(kind: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(body) if size is None else size, kind) + body


def header() -> bytes:
    return recording("mp4_opus_250ms")[0]


def moof(sizes: list[int], *, count: int | None = None, offset: int | None = None, number: int = 1) -> bytes:
    """A fragment's list of samples; `count` and `offset` lie about them."""

    def made(offset: int) -> bytes:
        listed = b"".join(struct.pack(">I", size) for size in sizes)
        trun = struct.pack(">IIi", 0x201, len(sizes) if count is None else count, offset) + listed
        traf = box(b"traf", box(b"tfhd", struct.pack(">II", 0x020000, 1)) + box(b"trun", trun))
        return box(b"moof", box(b"mfhd", struct.pack(">II", 0, number)) + traf)

    return made(len(made(0)) + 8 if offset is None else offset)


PACKET = b"\xf8" + bytes(60)


def test_audio_comes_out_with_the_bytes_that_complete_its_sample() -> None:
    pre_skip = 4
    stream = header() + moof([61] * (pre_skip + 3)) + box(b"mdat", (pre_skip + 3) * PACKET)
    decoder = opened(stream)
    sizes = [len(decoder.decode(byte)) for byte in pieces(stream, 1)]
    assert [i - len(stream) for i, size in enumerate(sizes, 1) if size] == [-122, -61, 0]


@pytest.mark.parametrize("lost", [2, 7, 20])
def test_lost_chunk_costs_its_own_audio_only(lost: int) -> None:
    chunks = recording("mp4_opus_250ms")
    whole = len(decoded(b"".join(chunks)))
    assert whole - len(fed(opened(chunks[0]), chunks[:lost] + chunks[lost + 1 :])) <= 360 * MS


@pytest.mark.parametrize("begin", range(12_000, 180_000, 9_001))
def test_bytes_lost_anywhere_cost_little_and_are_counted(begin: int) -> None:
    whole = b"".join(recording("mp4_opus_250ms"))
    decoder = opened(whole)
    pcm = fed(decoder, [whole[:begin], whole[begin + 300 :]])
    assert abs(len(decoded(whole)) - len(pcm)) <= 720 * MS
    assert decoder.info is not None
    assert decoder.info.lost_bytes > 0


def test_repeated_chunk_is_not_heard_twice() -> None:
    chunks = recording("mp4_opus_250ms")
    decoder = opened(chunks[0])
    assert fed(decoder, [*chunks[:5], chunks[4], *chunks[5:]]) == decoded(b"".join(chunks))


def test_recorder_restarted_within_the_stream_begins_anew() -> None:
    whole = b"".join(recording("mp4_opus_250ms"))
    assert decoded(whole + whole) == 2 * decoded(whole)


@pytest.mark.parametrize("name", ["chromium", "safari"])
def test_kept_init_segment_makes_a_continuation_decodable(name: str) -> None:
    whole = b"".join(recording("mp4_opus_250ms")) if name == "chromium" else encoded("mp4", *SAFARI)
    before = opened(whole)
    before.decode(whole)
    after = opened(before.init_segment)
    pcm = fed(after, [before.init_segment, whole[len(whole) // 2 :]])
    assert 0.2 * len(decoded(whole)) < len(pcm) < 0.8 * len(decoded(whole))


def test_continuation_with_no_header_is_refused_by_name() -> None:
    with pytest.raises(AudioError, match="first chunk"):
        registry().recognise(recording("mp4_opus_250ms")[3], StreamFormat("audio/mp4"))


@pytest.mark.parametrize("label", ["audio/mp4", "webm", "audio/webm;codecs=opus", "pcm", ""])
def test_safari_s_stream_is_recognised_under_any_name(label: str) -> None:
    assert decoded(encoded("mp4", *SAFARI), label) == decoded(encoded("mp4", *SAFARI), "mp4") != b""


def test_file_with_its_index_at_the_end_is_decoded_when_it_is_complete() -> None:
    whole = encoded("m4a", "-c:a", "aac")
    assert whole.index(b"moov") > whole.index(b"mdat")
    decoder = opened(whole)
    assert decoder.blocking
    assert decoder.decode(whole) == b""
    assert len(decoder.flush()) == pytest.approx(32_000, rel=0.1)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (DecodeLimits(max_whole_bytes=1000), AudioTooLong),
        (DecodeLimits(max_whole_seconds=0.5), AudioTooLong),
        (DecodeLimits(max_rate_hz=8000), UnsupportedAudio),
        (DecodeLimits(max_seconds_per_byte=1e-6), AudioBomb),
    ],
)
def test_whole_file_is_held_to_its_limits(limits: DecodeLimits, error: type[AudioError]) -> None:
    whole = encoded("m4a", "-c:a", "aac")
    with pytest.raises(error):
        fed(opened(whole, limits=limits), [whole])


@pytest.mark.parametrize("name", [b"stsz", b"trun"])
def test_few_bytes_that_claim_millions_of_samples_are_a_bomb(name: bytes) -> None:
    whole = encoded("m4a", "-c:a", "alac")
    claim = box(name, struct.pack(">IIII", 0, 0x4000000 if name == b"trun" else 0xDE00, 0x4000000, 0))
    with pytest.raises(AudioBomb):
        decoded(whole + box(b"moov", box(b"stbl", claim)))


def test_audio_that_looks_like_a_claim_is_no_bomb() -> None:
    whole = encoded("m4a", "-c:a", "alac")
    tail = box(b"mdat", b"stsz" + b"\xff" * 40)
    assert decoded(whole + tail) == decoded(whole) != b""


@pytest.mark.parametrize("cut", [200, 1000, 3000])
def test_truncated_file_is_a_named_error(cut: int) -> None:
    whole = encoded("m4a", "-c:a", "aac")
    with pytest.raises(AudioMalformed):
        fed(opened(whole, "m4a"), [whole[:cut]])


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        (moof([], count=2**31), AudioBomb),
        (moof([], count=10) + bytes(200_000), AudioMalformed),
        (moof([2**30]) + box(b"mdat", bytes(100), 2**31), AudioBomb),
        (box(b"moof", b"", 2**31), AudioBomb),
        (box(b"free", b"", 2**31), AudioBomb),
        (box(b"moov", box(b"trak")), UnsupportedAudio),
        (box(b"moov", b"\xff" * 40), AudioMalformed),
        (bytes(200_000), AudioMalformed),
    ],
)
def test_bad_stream_is_a_named_error(tail: bytes, error: type[AudioError]) -> None:
    stream = header() + tail
    with pytest.raises(error):
        decoded(stream)
    with pytest.raises(error):
        fed(opened(stream), pieces(stream, 100))


@pytest.mark.parametrize("kind", [b"ftyp", b"moof"])
def test_box_too_small_for_its_own_header_is_passed_over(kind: bytes) -> None:
    good = moof([61] * 9) + box(b"mdat", 9 * PACKET)
    assert decoded(header() + box(kind, size=0) + good) == decoded(header() + good) != b""


@pytest.mark.parametrize("offset", [-5, 0, 10, 2**30])
def test_sample_that_lies_nowhere_is_left_out(offset: int) -> None:
    good = moof([61] * 9, number=2) + box(b"mdat", 9 * PACKET)
    astray = moof([61], offset=offset) + box(b"mdat", PACKET)
    assert decoded(header() + astray + good) == decoded(header() + good) != b""
