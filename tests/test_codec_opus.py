"""Opus packets: what their headers claim, and the two engines that decode them."""

from __future__ import annotations

import pytest
from codec_kit import likeness_db, recording

from tornado_live.audio import DecodeLimits
from tornado_live.errors import AudioError, AudioMalformed
from tornado_live_codecs._opus import OpusDecoder, OpusHead, is_packet, libopus, open_opus, packet_samples
from tornado_live_codecs._pyav import PacketDecoder, PyavDecoder
from tornado_live_codecs._webm import Packet, WebmDemuxer


def pcm_of(decoder: PacketDecoder, name: str) -> bytes:
    pcm = [decoder.decode(packet, encoded_bytes) for packet, encoded_bytes, _ in packets(name)]
    return b"".join(pcm) + decoder.flush()


def packets(name: str) -> list[Packet]:
    found = list(WebmDemuxer(DecodeLimits()).feed(b"".join(recording(name))))
    return [item for item in found if isinstance(item, tuple)]


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [
        (b"\x00", 10), (b"\x18", 60), (b"\x60", 10), (b"\x68", 20), (b"\x80", 2.5), (b"\xf8", 20),
        (b"\xf9\1\2", 40), (b"\xfa\1", 40), (b"\xfb\x03", 60), (b"\x1b\x02", 120), (b"\x83\x30", 120),
    ],
)  # fmt: skip
def test_duration_is_read_from_the_first_two_bytes(packet: bytes, milliseconds: float) -> None:
    assert packet_samples(packet) == milliseconds * 16


@pytest.mark.parametrize("packet", [b"", b"\xf9\1", b"\xfa", b"\xfb", b"\xfb\0", b"\x1b\3", b"\xfb\x07"])
def test_packet_that_rfc_6716_does_not_allow_is_not_accepted(packet: bytes) -> None:
    assert not is_packet(packet)


@pytest.mark.parametrize("name", ["webm_opus_250ms", "ff_webm_opus_250ms"])
def test_both_engines_decode_the_same_sound(name: str) -> None:
    head = OpusHead(pre_skip=312 if name.startswith("ff") else 0)
    library = libopus()
    assert library is not None
    native = OpusDecoder(head, library, DecodeLimits())
    pyav = PyavDecoder("opus", head.pack(), 48_000, 1, DecodeLimits(), accepts=is_packet)
    ours, theirs = pcm_of(native, name), pcm_of(pyav, name)
    assert len(ours) == len(theirs)
    assert likeness_db(ours, theirs) > 60


def test_output_gain_is_applied() -> None:
    def level(gain_q8: int) -> int:
        decoder = open_opus(OpusHead(gain_q8=gain_q8), DecodeLimits())
        pcm = b"".join(decoder.decode(packet, size) for packet, size, _ in packets("webm_opus_1000ms"))
        return max(abs(sample) for sample in memoryview(pcm).cast("h"))

    assert level(-20 * 256) == pytest.approx(level(-10 * 256) / 10**0.5, rel=0.01)


@pytest.mark.parametrize("header", [b"", b"OpusHead", b"OpusTags" + bytes(11), b"OpusHead\x10" + bytes(10)])
def test_damaged_header_is_a_named_error(header: bytes) -> None:
    with pytest.raises(AudioError):
        OpusHead.parse(header)


def test_damaged_packet_is_left_out_and_many_in_a_row_end_the_stream() -> None:
    decoder = open_opus(OpusHead(), DecodeLimits())
    good = packets("webm_opus_250ms")[5][0]
    damaged = b"\xfb\x03" + bytes(58)
    for _ in range(100):
        assert decoder.decode(damaged, 60) == b""
        assert decoder.decode(good, len(good)) != b""
    assert decoder.lost_bytes == 6000
    with pytest.raises(AudioMalformed):
        b"".join(decoder.decode(damaged, 60) for _ in range(100))
