"""Frame headers of MP3 (ISO/IEC 11172-3, 2.4.2.3; 13818-3) and ADTS AAC (ISO/IEC 14496-3, 1.A.2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEADER_BYTES = 7
"""What `mp3_frame` and `adts_frame` need to see."""

_BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LOW_BITRATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame header says.

    Attributes:
        size: bytes of the frame, header included.
        samples: samples of each channel.
    """

    size: int
    samples: int
    rate_hz: int
    channels: int


ReadFrame = Callable[[bytes, int], Frame | None]
"""Reads the header at a position from which `HEADER_BYTES` can be seen; None: there is none."""


def mp3_frame(data: bytes, pos: int) -> Frame | None:
    """Layer III; free-format streams are not supported."""
    if data[pos] != 0xFF or data[pos + 1] & 0xE6 != 0xE2:
        return None
    version = data[pos + 1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    bitrate, rate, padding = data[pos + 2] >> 4, data[pos + 2] >> 2 & 3, data[pos + 2] >> 1 & 1
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    rate_hz = _MP3_RATES[version][rate]
    samples, rates = (1152, _BITRATES) if version == 3 else (576, _LOW_BITRATES)
    size = samples // 8 * rates[bitrate] * 1000 // rate_hz + padding
    return Frame(size, samples, rate_hz, 1 if data[pos + 3] >> 6 == 3 else 2)


def adts_frame(data: bytes, pos: int) -> Frame | None:
    """One raw data block or more of AAC; channel configuration 0 is taken for stereo."""
    if data[pos] != 0xFF or data[pos + 1] & 0xF6 != 0xF0:
        return None
    rate = data[pos + 2] >> 2 & 15
    size = (data[pos + 3] & 3) << 11 | data[pos + 4] << 3 | data[pos + 5] >> 5
    if rate >= len(_AAC_RATES) or size <= HEADER_BYTES:
        return None
    channels = (data[pos + 2] & 1) << 2 | data[pos + 3] >> 6
    blocks = (data[pos + 6] & 3) + 1
    return Frame(size, 1024 * blocks, _AAC_RATES[rate], 8 if channels == 7 else channels or 2)


def frames_in_a_row(data: bytes, pos: int, read: ReadFrame, enough: int) -> tuple[int, bool]:
    """Follows the frames from `pos` on, as far as one stream may hold them, until there are enough.

    Returns:
        How many headers there are, and whether something else followed the last one; if not, there
        are enough, or the data just ended.
    """
    rate_hz, count = 0, 0
    while count < enough and pos + HEADER_BYTES <= len(data):
        frame = read(data, pos)
        if frame is None or rate_hz not in (0, frame.rate_hz):
            return count, True
        rate_hz = frame.rate_hz
        count += 1
        pos += frame.size
    return count, False


def id3_bytes(head: bytes) -> int | None:
    """The size of an ID3v2 tag, by its first 10 bytes (ID3v2.4, section 3.1); None: it is none."""
    size = head[6:10]
    if head[:3] != b"ID3" or 0xFF in head[3:5] or any(byte & 0x80 for byte in size):
        return None
    footer = 10 if head[5] & 0x10 else 0
    return 10 + footer + sum(byte << 7 * (3 - i) for i, byte in enumerate(size))


@dataclass(frozen=True, slots=True)
class XingTag:
    """What a first frame without audio says of an MP3 file (LAME's tag within Xing's).

    Attributes:
        frames: frames that follow; 0 if it says nothing.
        delay, padding: samples that the encoder put before and after the audio.
    """

    frames: int
    delay: int
    padding: int


DECODER_DELAY = 529
"""Samples by which an MP3 decoder is late; they are left out together with the encoder's delay."""


def xing_tag(frame: bytes, header: Frame) -> XingTag | None:
    """Reads the tag, if the frame is one."""
    side_bytes = {(1152, 2): 32, (1152, 1): 17, (576, 2): 17, (576, 1): 9}[header.samples, header.channels]
    tag = frame[4 + side_bytes :]
    if tag[:4] not in (b"Xing", b"Info"):
        return None
    flags = int.from_bytes(tag[4:8])
    frames = int.from_bytes(tag[8:12]) if flags & 1 else 0
    lame = 8 + sum(size for flag, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & flag)
    delays = int.from_bytes(tag[lame + 21 : lame + 24]) if len(tag) >= lame + 24 else 0
    return XingTag(frames, delays >> 12, delays & 0xFFF)
