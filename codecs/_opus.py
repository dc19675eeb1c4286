"""Opus packets (RFC 6716) to 16 kHz mono, by libopus through ctypes.

libopus decodes at any of its rates and to any channel count by itself, band-limited, so there is no
resampler, no delay and no frame object between the packet and the PCM. Where no libopus can be
loaded, PyAV's decoder and resampler take over.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado_live.audio import TARGET, DecodeLimits, ExpansionMeter
from tornado_live.errors import AudioMalformed, UnsupportedAudio

from ._pyav import Damage, PacketDecoder, PyavDecoder

OPUS_RATE_HZ = 48_000
"""What Opus durations and pre-skip are counted in, whatever the input was (RFC 7845, section 4)."""

_RATE_HZ = TARGET.rate_hz
_UPSAMPLING = OPUS_RATE_HZ // TARGET.rate_hz

MAX_PACKET_SAMPLES = TARGET.rate_hz * 120 // 1000
"""A packet lasts at most 120 ms (RFC 6716, section 3.2.5)."""

_SET_GAIN = 4034  # OPUS_SET_GAIN of opus_defines.h
_MAGIC = b"OpusHead"
_HEAD = struct.Struct("<8sBBHIhB")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpusHead:
    """The identification header (RFC 7845, section 5.1).

    Attributes:
        channels: 1 or 2.
        pre_skip: samples at 48 kHz to drop from the start.
        gain_q8: output gain in dB, as a 7.8 fixed-point number.
    """

    channels: int = 1
    pre_skip: int = 0
    gain_q8: int = 0

    @classmethod
    def parse(cls, data: bytes) -> OpusHead:
        """Reads `OpusHead` as Ogg and WebM carry it.

        Raises:
            AudioMalformed: it is not one, or of a version that is not understood.
            UnsupportedAudio: more than two channels, or a mapping that is not plain mono or stereo.
        """
        if len(data) < _HEAD.size or data[:8] != _MAGIC or data[8] >> 4:
            raise AudioMalformed("The Opus header is damaged.")
        _, _, channels, pre_skip, _, gain_q8, family = _HEAD.unpack_from(data)
        if family > 1 or not 1 <= channels <= 2 or (family == 1 and data[19:20] != b"\x01"):
            raise UnsupportedAudio(
                f"Opus with {channels} channels and mapping family {family} is not supported; "
                "mono and stereo are."
            )
        return cls(channels, pre_skip, gain_q8)

    @classmethod
    def parse_mp4(cls, dops: bytes, edit_start: int) -> OpusHead:
        """Reads the body of a `dOps` box: the same fields, but big-endian (Opus in ISOBMFF, 4.3.2).

        Args:
            edit_start: samples at 48 kHz that the track's edit list leaves out; the pre-skip where it
                says so, since the box only repeats it.

        Raises:
            AudioMalformed, UnsupportedAudio: see `parse`.
        """
        if len(dops) < 11:
            raise AudioMalformed("The Opus header is damaged.")
        _, channels, pre_skip, rate_hz, gain_q8, family = struct.unpack_from(">BBHIhB", dops)
        head = _HEAD.pack(_MAGIC, 1, channels, edit_start or pre_skip, rate_hz, gain_q8, family)
        return cls.parse(head + dops[11:])

    def pack(self) -> bytes:
        """The header's bytes, mapping family 0."""
        return _HEAD.pack(_MAGIC, 1, self.channels, self.pre_skip, OPUS_RATE_HZ, self.gain_q8, 0)


def _frame_samples(config: int) -> int:
    """Samples at 16 kHz of one frame of a TOC configuration (RFC 6716, section 3.1, table 2)."""
    if config < 12:
        return (160, 320, 640, 960)[config & 3]
    if config < 16:
        return (160, 320)[config & 1]
    return (40, 80, 160, 320)[config & 3]


_FRAME_SAMPLES = tuple(_frame_samples(toc >> 3) for toc in range(256))


def packet_samples(packet: bytes) -> int:
    """How many samples at 16 kHz a packet claims to hold, by its first two bytes.

    Returns:
        40 to 1920, or 0 where RFC 6716, section 3.2 does not allow such a packet.
    """
    toc = packet[0]
    code = toc & 3
    if code == 0:
        return _FRAME_SAMPLES[toc]
    if code == 1:
        return 2 * _FRAME_SAMPLES[toc] if len(packet) & 1 else 0
    if code == 2:
        return 2 * _FRAME_SAMPLES[toc] if len(packet) > 1 else 0
    samples = (packet[1] & 0x3F) * _FRAME_SAMPLES[toc] if len(packet) > 1 else 0
    return samples if samples <= MAX_PACKET_SAMPLES else 0


def is_packet(packet: bytes) -> bool:
    """Whether the bytes may be an Opus packet."""
    return bool(packet) and packet_samples(packet) > 0


@functools.cache
def libopus() -> ctypes.CDLL | None:
    """The library: the one inside PyAV's wheel, else the system's, else None."""
    for path in [*_bundled(), ctypes.util.find_library("opus")]:
        if path is None:
            continue
        try:
            library = ctypes.CDLL(path)
            library.opus_decoder_get_size.argtypes = [ctypes.c_int]
            library.opus_decoder_init.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]
            library.opus_decoder_ctl.argtypes = [ctypes.c_void_p, ctypes.c_int]
            library.opus_decode.argtypes = [
                ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int, ctypes.c_int,
            ]  # fmt: skip
        except (OSError, AttributeError) as exc:
            log.info("libopus at %s cannot be used: %s", path, exc)
        else:
            return library
    log.warning("no libopus found; Opus is decoded by PyAV, at about 1.4 times the cost")
    return None


def _bundled() -> list[str]:
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return []
    package = Path(spec.origin).parent
    # auditwheel, delvewheel and delocate each put the libraries elsewhere, under hashed names
    folders = (package.parent / "av.libs", package / ".dylibs")
    return [str(file) for folder in folders for file in sorted(folder.glob("*opus-*"))] + [
        str(file) for folder in folders for file in sorted(folder.glob("libopus.*"))
    ]


class OpusDecoder:
    """Decodes the packets of one stream; see `PacketDecoder`. Nothing is ever held back."""

    codec = "opus"
    rate_hz = OPUS_RATE_HZ

    def __init__(self, head: OpusHead, library: ctypes.CDLL, limits: DecodeLimits) -> None:
        self.channels = head.channels
        self.decoded_samples = 0
        self._decode = library.opus_decode
        self._state = ctypes.create_string_buffer(library.opus_decoder_get_size(1))
        if library.opus_decoder_init(self._state, TARGET.rate_hz, 1) != 0:
            raise MemoryError("opus_decoder_init")
        if head.gain_q8:
            library.opus_decoder_ctl(self._state, _SET_GAIN, ctypes.c_int(head.gain_q8))
        # A slice of ctypes characters is bytes, which their type stub does not know.
        self._pcm: Any = ctypes.create_string_buffer(2 * MAX_PACKET_SAMPLES)
        self._addresses = ctypes.addressof(self._state), ctypes.addressof(self._pcm)
        self._skip_bytes = 2 * round(head.pre_skip * TARGET.rate_hz / OPUS_RATE_HZ)
        self._meter = ExpansionMeter(limits)
        self._damage = Damage()

    @property
    def lost_bytes(self) -> int:
        return self._damage.lost_bytes

    def accepts(self, packet: bytes) -> bool:
        return is_packet(packet)

    def decode(self, packet: bytes, encoded_bytes: int, discard: int = 0) -> bytes:
        self._meter.count(encoded_bytes, packet_samples(packet) / _RATE_HZ)
        state, pcm = self._addresses
        samples = self._decode(state, packet, len(packet), pcm, MAX_PACKET_SAMPLES, 0)
        if samples < 0:
            self._damage.count(self.codec, encoded_bytes)
            return b""
        if self._damage.in_a_row:
            self._damage.in_a_row = 0
        self.decoded_samples += _UPSAMPLING * samples
        if not (discard or self._skip_bytes):
            return bytes(self._pcm[: 2 * samples])
        end = 2 * max(0, samples - round(discard * TARGET.rate_hz / OPUS_RATE_HZ))
        begin = min(self._skip_bytes, end)
        self._skip_bytes -= begin
        return bytes(self._pcm[begin:end])

    def flush(self) -> bytes:
        return b""


def open_opus(head: OpusHead, limits: DecodeLimits) -> PacketDecoder:
    """A decoder of Opus packets: libopus where there is one, else PyAV."""
    library = libopus()
    if library is None:
        return PyavDecoder("opus", head.pack(), OPUS_RATE_HZ, head.channels, limits, accepts=is_packet)
    return OpusDecoder(head, library, limits)
