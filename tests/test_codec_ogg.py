"""Ogg: what Firefox records, what networks lose, and what attackers send."""

from __future__ import annotations

import itertools
import re
import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from codec_kit import decoded, encoded, fed, fed_until_error, opened, pieces, recording

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioBomb, AudioError, AudioMalformed, UnsupportedAudio

MS = 32  # bytes of PCM
PACKET = b"\xf8" + bytes(60)
"""20 ms of Opus."""

HEAD = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, 48_000, 0, 0)
TAGS = b"OpusTags" + bytes(8)


def crc(data: bytes) -> int:
    """RFC 3533, section 6, bit by bit, as the RFC has it."""
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def page(
    number: int, *packets: bytes, flags: int = 0, granule: int = 0, serial: int = 7, unfinished: bool = False
) -> bytes:
    """Unfinished: the last packet, of a multiple of 255 bytes, goes on in the next page."""
    table = b"".join(bytes([255] * (len(packet) // 255)) + bytes([len(packet) % 255]) for packet in packets)
    table = table[: -1 if unfinished else None]
    fields = (b"OggS", 0, flags, granule, serial, number, 0, len(table))
    raw = struct.pack("<4sBBqIIIB", *fields) + table + b"".join(packets)
    return raw[:22] + struct.pack("<I", crc(raw)) + raw[26:]


def stream(pages: Iterable[bytes], head: bytes = HEAD) -> bytes:
    return page(0, head, flags=2) + page(1, TAGS) + b"".join(pages)


def test_audio_comes_out_with_the_page_that_holds_it() -> None:
    chunks = recording("ff_ogg_opus_250ms")
    decoder = opened(chunks[0])
    sizes = [len(decoder.decode(chunk)) for chunk in chunks]
    assert sizes[0] == 0
    assert all(180 * MS <= size <= 320 * MS for size in sizes[2:40]), sizes


@pytest.mark.parametrize("lost", [2, 7, 20])
def test_lost_chunk_costs_its_own_audio_only(lost: int) -> None:
    chunks = recording("ff_ogg_opus_250ms")
    whole = len(decoded(b"".join(chunks)))
    assert whole - len(fed(opened(chunks[0]), chunks[:lost] + chunks[lost + 1 :])) <= 280 * MS


@pytest.mark.parametrize("begin", range(5_000, 120_000, 7_001))
def test_bytes_lost_anywhere_cost_one_page_and_are_counted(begin: int) -> None:
    whole = b"".join(recording("ff_ogg_opus_250ms"))
    decoder = opened(whole)
    pcm = fed(decoder, [whole[:begin], whole[begin + 300 :]])
    assert len(decoded(whole)) - len(pcm) <= 560 * MS
    assert decoder.info is not None
    assert decoder.info.lost_bytes > 0


def test_repeated_chunk_is_not_heard_twice() -> None:
    chunks = recording("ff_ogg_opus_250ms")
    decoder = opened(chunks[0])
    assert fed(decoder, [*chunks[:5], chunks[4], *chunks[5:]]) == decoded(b"".join(chunks))
    assert decoder.info is not None
    assert decoder.info.lost_bytes == len(chunks[4])


@pytest.mark.parametrize(
    "made", [("-c:a", "libopus"), ("-c:a", "libvorbis"), ("-c:a", "flac")], ids=["opus", "vorbis", "flac"]
)
def test_kept_init_segment_makes_a_continuation_decodable(made: tuple[str, ...]) -> None:
    whole = encoded("ogg", *made, "-page_duration", "100000")
    before = opened(whole)
    before.decode(whole)
    after = opened(before.init_segment)
    pcm = fed(after, [before.init_segment, whole[len(whole) // 2 :]])
    assert 0.2 * len(decoded(whole)) < len(pcm) < 0.9 * len(decoded(whole))


def test_chained_stream_begins_anew() -> None:
    whole = b"".join(recording("ff_ogg_opus_250ms"))
    assert decoded(whole + whole) == 2 * decoded(whole)


def test_last_page_says_where_the_stream_ends() -> None:
    pages = [page(2, PACKET, PACKET, granule=1920), page(3, PACKET, PACKET, flags=4, granule=3000)]
    assert len(decoded(stream(pages))) == 2 * 1000


def test_stream_that_was_joined_late_starts_where_it_starts() -> None:
    pages = [page(90, PACKET, granule=960_960), page(91, PACKET, flags=4, granule=961_500)]
    assert len(decoded(stream(pages))) == 2 * 500


def test_packet_over_two_pages_is_put_together() -> None:
    long = b"\xfb\x03" + bytes(600)
    first = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, -1, 7, 2, 0, 2) + b"\xff\xff" + long[:510]
    first = first[:22] + struct.pack("<I", crc(first)) + first[26:]
    second = page(3, long[510:], flags=1, granule=2880)
    assert len(decoded(stream([first, second]))) == 60 * MS
    assert decoded(stream([second])) == b""


def test_other_streams_in_the_file_are_skipped() -> None:
    video = page(0, b"\x80theora" + bytes(30), flags=2, serial=1) + page(1, bytes(3000), serial=1)
    sound = stream([page(2, PACKET, granule=960)])
    assert decoded(video[:58] + sound + video[58:]) == decoded(sound) != b""


def test_two_damaged_pages_in_a_row_cost_their_own_audio_only() -> None:
    """FLAC in pages of some 50 kB: two of them are more than the patience for bytes without sense."""
    whole = encoded(
        "ogg", "-c:a", "flac", "-ac", "2", "-ar", "96000", "-page_duration", "9000000", seconds=11.0
    )
    starts = [found.start() for found in re.finditer(b"OggS", whole)]
    sizes = [b - a for a, b in itertools.pairwise(starts)]
    first = next(n for n in range(3, len(sizes) - 1) if sizes[n] + sizes[n + 1] > 100_000)
    damaged = bytearray(whole)
    for number in (first, first + 1):
        damaged[starts[number] + 1000] ^= 1
    lost_s = (len(decoded(whole)) - len(decoded(bytes(damaged)))) / (1000 * MS)
    assert 0 < lost_s < 4.0


def test_picture_among_the_comments_is_not_kept() -> None:
    tags = TAGS + bytes(4 * 51_000 - len(TAGS))
    parts = [tags[at : at + 51_000] for at in range(0, len(tags), 51_000)]
    pages = [page(1 + n, part, flags=n > 0, unfinished=n < 3) for n, part in enumerate(parts)]
    decoder = opened(page(0, HEAD, flags=2))
    decoder.decode(page(0, HEAD, flags=2))
    tracemalloc.start()
    for each in pages[:3]:
        assert decoder.decode(each) == b""
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 130_000
    decoder.decode(pages[3])
    assert len(decoder.decode(page(5, PACKET, granule=960))) == 20 * MS
    assert decoder.info is not None
    assert decoder.info.lost_bytes == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (page(0, b"OpusHead\x01", flags=2), AudioMalformed),
        (page(0, HEAD[:9] + b"\xff" + HEAD[10:], flags=2), UnsupportedAudio),
        (page(0, b"\x01vorbis" + bytes(5), flags=2) + page(1, b"\x05vorbis"), AudioMalformed),
        (page(0, b"\x01vorbis" + bytes(23), flags=2) + page(1, b"\x05vorbis"), UnsupportedAudio),
        (page(0, b"\x01vorbis" + bytes(23), flags=2) + page(1, b"\0" * 50), AudioMalformed),
        (page(0, b"\x7fFLAC" + bytes(9), flags=2), AudioMalformed),
        (b"OggS" + bytes(200_000), AudioMalformed),
    ],
)
def test_bad_stream_is_a_named_error(data: bytes, error: type[AudioError]) -> None:
    with pytest.raises(error):
        decoded(data)
    with pytest.raises(error):
        fed(opened(data), pieces(data, 100))


def test_packets_that_claim_too_much_are_refused_before_they_are_decoded() -> None:
    dtx = bytes([15 << 3 | 3, 6])
    bomb = stream(page(i, *[dtx] * 255, granule=i) for i in range(2, 20))
    pcm = fed_until_error(opened(bomb), pieces(bomb, 256), AudioBomb)
    assert len(pcm) / 32_000 < 2 * DecodeLimits().averaging_bytes * DecodeLimits().max_seconds_per_byte
