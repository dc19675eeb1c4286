"""For the tests of codec plugins: everything the server relies on, in one call.

from tornado_live.testing import codec_contract

def test_my_codec_keeps_the_contract():
    pcm = codec_contract(my_codec, open("speech.xyz", "rb").read())
    assert len(pcm) == 2 * 16_000 * 11
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NoReturn

from tornado_live.audio import SNIFF_BYTES, AudioDecoder, Codec, DecodeLimits, StreamFormat, StreamInfo
from tornado_live.errors import AudioError

__all__ = ["ContractBroken", "codec_contract"]

FOREIGN_HEADS = (
    b"\x1a\x45\xdf\xa3" + bytes(60),
    b"OggS\0\2" + bytes(60),
    b"RIFF\0\0\0\0WAVEfmt " + bytes(40),
    b"\0\0\0\x1cftypisom" + bytes(60),
    b"fLaC\0\0\0\x22" + bytes(60),
    bytes(64),
    random.Random(0).randbytes(64),
)
"""First bytes of audio that is surely somebody else's: WebM, Ogg, WAV, MP4, FLAC, silence, noise."""

_CUTS = (1, 7, 960)
_SEEDS = range(20)


class ContractBroken(AssertionError):
    """A rule that the server relies on does not hold; the text says which one, and how."""


def codec_contract(
    codec: Codec,
    stream: bytes,
    *,
    declared: StreamFormat | None = None,
    limits: DecodeLimits | None = None,
) -> bytes:
    """Runs the whole contract on a codec with one good stream of its format.

    It is recognised by its first bytes and by no one else's; any cut gives identical PCM; empty
    chunks are harmless; decoders share nothing; properties and results have their types; a stream
    that is cut short or damaged, or a nonsensical declaration, raises `AudioError` or nothing.

    Args:
        codec: what the plugin offers.
        stream: a whole recording, a second or so of sound that is not silent.
        declared: what a client would say of it; by default the codec's name at 16 kHz mono.
        limits: what the server would allow; by default its defaults.

    Returns:
        The stream's PCM: 16-bit little-endian, 16 kHz, mono.

    Raises:
        ContractBroken: a rule does not hold.
    """
    contract = _Contract(codec, stream, declared or StreamFormat(codec.name), limits or DecodeLimits())
    contract.recognition()
    pcm = contract.whole()
    contract.cuts(pcm)
    contract.independence(pcm)
    contract.properties()
    contract.trouble()
    contract.declarations()
    return pcm


class _Contract:
    def __init__(self, codec: Codec, stream: bytes, declared: StreamFormat, limits: DecodeLimits) -> None:
        self.codec = codec
        self.stream = stream
        self.declared = declared
        self.limits = limits

    def recognition(self) -> None:
        """`sniff` takes its own streams, however little of them is there, and no others."""
        if self.codec.headerless:
            return
        head = self.stream[:SNIFF_BYTES]
        if self._sniffed(head) is not True:
            _break("sniff does not recognise the first bytes of the stream")
        for size in range(1, min(len(head), 64)):
            if self._sniffed(head[:size]) is False:
                _break(f"sniff refuses the first {size} bytes of a stream that it takes later; return None")
        for foreign in FOREIGN_HEADS:
            akin = foreign[:4] == head[:4] or foreign[4:8] == head[4:8] == b"ftyp"
            if not akin and self._sniffed(foreign, StreamFormat()) is True:
                _break(f"sniff takes a stream that begins with {foreign[:12]!r}")

    def whole(self) -> bytes:
        pcm = self._decoded([self.stream])
        if not any(pcm):
            _break("the stream's PCM is empty or silent")
        return pcm

    def cuts(self, pcm: bytes) -> None:
        """Any cut of the bytes, empty chunks included, gives identical PCM."""
        for size in _CUTS:
            chunks = [self.stream[i : i + size] for i in range(0, len(self.stream), size)]
            if self._decoded(chunks) != pcm:
                _break(f"chunks of {size} bytes give other PCM than the stream as a whole")
        for seed in _SEEDS:
            if self._decoded(_random_cut(self.stream, random.Random(seed))) != pcm:
                _break(f"chunks of random sizes (seed {seed}) give other PCM than the stream as a whole")

    def independence(self, pcm: bytes) -> None:
        """Two decoders at once, and one after the other, do not disturb each other."""
        half = len(self.stream) // 2
        one, other = self._open(), self._open()
        results = {decoder: _pcm(decoder.decode(self.stream[:half])) for decoder in (one, other)}
        for decoder in (one, other):
            results[decoder] += _pcm(decoder.decode(self.stream[half:])) + _pcm(decoder.flush())
        if results[one] != pcm or results[other] != pcm:
            _break("two decoders at the same time disturb each other")

    def properties(self) -> None:
        decoder = self._open()
        _check_properties(decoder)
        for chunk in _random_cut(self.stream, random.Random(0)):
            decoder.decode(chunk)
            _check_properties(decoder)
        decoder.flush()
        if not isinstance(decoder.info, StreamInfo):
            _break("info is not a StreamInfo when the stream has been decoded")
        if decoder.init_segment:
            self._survives([decoder.init_segment, self.stream[len(self.stream) // 2 :]], "a continuation")

    def trouble(self) -> None:
        """Nothing but `AudioError` comes out of streams that are cut short or damaged."""
        for seed in _SEEDS:
            chance = random.Random(seed)
            end = chance.randrange(len(self.stream))
            self._survives([self.stream[:end]], f"a stream of {end} bytes")
            damaged = bytearray(self.stream)
            for _ in range(chance.randrange(1, 30)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            self._survives(_random_cut(bytes(damaged), chance), f"a damaged stream (seed {seed})")
            gap = chance.randrange(len(self.stream))
            self._survives([self.stream[:gap], self.stream[gap + 100 :]], f"100 bytes lost at {gap}")
            self._survives([self.stream[:gap], self.stream[gap // 2 :]], f"bytes repeated at {gap}")
        self._survives([], "a stream of no bytes")

    def declarations(self) -> None:
        """What a client declares may be nonsense."""
        for rate_hz, channels in ((0, 1), (-1, 1), (1, 1), (2**31, 1), (16_000, 0), (16_000, 2**16)):
            declared = StreamFormat(self.declared.label, rate_hz, channels)
            self._survives([self.stream], f"rate {rate_hz} and {channels} channels", declared)

    def _sniffed(self, head: bytes, declared: StreamFormat | None = None) -> bool | None:
        verdicts = [self.codec.sniff(head, declared or self.declared) for _ in range(2)]
        if verdicts[0] is not verdicts[1] or not (verdicts[0] is None or isinstance(verdicts[0], bool)):
            _break(
                f"sniff answers {verdicts[0]!r}, then {verdicts[1]!r}; it must be one of True, False, None"
            )
        return verdicts[0]

    def _open(self, declared: StreamFormat | None = None) -> AudioDecoder:
        decoder = self.codec.open(declared or self.declared, self.limits)
        if not isinstance(decoder, AudioDecoder):
            _break(f"open returns {type(decoder).__name__}, which lacks members of AudioDecoder")
        return decoder

    def _decoded(self, chunks: Iterable[bytes], declared: StreamFormat | None = None) -> bytes:
        decoder = self._open(declared)
        return b"".join([*(_pcm(decoder.decode(chunk)) for chunk in chunks), _pcm(decoder.flush())])

    def _survives(self, chunks: Iterable[bytes], what: str, declared: StreamFormat | None = None) -> None:
        try:
            self._decoded(chunks, declared)
        except ContractBroken:
            raise
        except AudioError:
            return
        except Exception as exc:
            raise ContractBroken(f"{what} raises {type(exc).__name__}, not an AudioError: {exc}") from exc


def _pcm(pcm: object) -> bytes:
    if not isinstance(pcm, bytes):
        _break(f"decode or flush returns {type(pcm).__name__}, not bytes")
    if len(pcm) % 2:
        _break(f"decode or flush returns {len(pcm)} bytes, which is not a whole number of samples")
    return pcm


def _check_properties(decoder: AudioDecoder) -> None:
    if not (decoder.info is None or isinstance(decoder.info, StreamInfo)):
        _break(f"info is a {type(decoder.info).__name__}, not a StreamInfo or None")
    if not isinstance(decoder.init_segment, bytes):
        _break(f"init_segment is a {type(decoder.init_segment).__name__}, not bytes")


def _random_cut(stream: bytes, chance: random.Random) -> list[bytes]:
    chunks, pos = [], 0
    while pos < len(stream):
        size = chance.choice((0, 1, 2, 3, 50, 1000, 5000))
        chunks.append(stream[pos : pos + size])
        pos += size
    return chunks


def _break(rule: str) -> NoReturn:
    raise ContractBroken(rule)
