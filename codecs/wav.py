"""WAV as a push parser: RIFF, and RF64 and BW64 for what is longer than 4 GiB (ITU-R BS.2088).

The sizes in the header of a live recording are unknown or stale, so they are only believed where what
follows the declared end looks like another chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Generator

from tornado_live import hookimpl
from tornado_live.audio import Codec, DecodeLimits, PcmFormat, SampleEncoding, StreamFormat, StreamInfo
from tornado_live.errors import AudioBomb, AudioMalformed, UnsupportedAudio

from ._push import Parser, PushDecoder
from ._samples import PcmConverter

_FORMS = (b"RIFF", b"RF64", b"BW64")
_ENDLESS = 0xFFFFFFFF
_CHUNK = struct.Struct("<4sI")
_TRAILING_CHUNKS = {
    b"LIST", b"id3 ", b"ID3 ", b"cue ", b"fact", b"bext", b"iXML", b"axml", b"chna", b"smpl", b"inst",
    b"plst", b"JUNK", b"junk", b"PAD ", b"FLLR", b"PEAK", b"afsp", b"DISP", b"acid", b"_PMX", b"umid",
    b"cart", b"levl", b"link", b"MD5 ", b"CSET", b"labl", b"note", b"ltxt", b"strc", b"minf", b"elm1",
}  # fmt: skip

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000AA00389B71")  # of KSDATAFORMAT_SUBTYPE_PCM and its kin
_ENCODINGS: dict[tuple[int, int], SampleEncoding] = {
    (_PCM, 8): "u8", (_PCM, 16): "s16le", (_PCM, 24): "s24le", (_PCM, 32): "s32le",
    (_FLOAT, 32): "f32le", (_FLOAT, 64): "f64le", (_ALAW, 8): "alaw", (_MULAW, 8): "mulaw",
}  # fmt: skip


class WavDecoder(PushDecoder):
    """See `tornado_live.audio.AudioDecoder`. A header after the end of the data begins a new stream."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._converter: PcmConverter | None = None
        super().__init__()

    @property
    def info(self) -> StreamInfo | None:
        if self._converter is None:
            return None
        source = self._converter.source
        return StreamInfo("wav", source.encoding, source.rate_hz, source.channels)

    def flush(self) -> bytes:
        return b"" if self._converter is None else self._converter.flush()

    def _parse(self) -> Parser:
        form = yield 12
        while True:
            if form[:4] not in _FORMS or form[8:] != b"WAVE":
                raise AudioMalformed("The WAV header is damaged.")
            self._pcm.append(self.flush())
            self._converter, size = yield from self._header()
            yield from self._samples(self._converter, size)
            form = yield from self._trailer(self._converter, size)

    def _header(self) -> Generator[int, bytes, tuple[PcmConverter, int]]:
        """Reads the chunks before the samples; returns what converts them and their size in bytes."""
        source: PcmFormat | None = None
        wide_size = _ENDLESS
        left = self._limits.max_header_bytes
        while True:
            name, size = _CHUNK.unpack((yield 8))
            if name == b"data":
                break
            left -= 8 + size
            if left < 0:
                raise AudioBomb("The WAV header claims to be larger than any honest one.")
            body = b""
            while len(body) < size + size % 2:
                body += yield len(body) - size - size % 2
            if name == b"fmt ":
                source = _pcm_format(body)
                self.init_segment = _CHUNK.pack(b"RIFF", _ENDLESS) + b"WAVE" + _CHUNK.pack(name, size) + body
                self.init_segment += _CHUNK.pack(b"data", _ENDLESS)
            elif name == b"ds64" and size >= 16:
                wide_size = int.from_bytes(body[8:16], "little")
        if source is None:
            raise AudioMalformed("The WAV header does not say what the samples are.")
        if size == _ENDLESS:
            size = wide_size
        return PcmConverter(source, self._limits), size or _ENDLESS

    def _samples(self, converter: PcmConverter, size: int) -> Parser:
        endless = size == _ENDLESS
        while size:
            piece = yield -size
            self._pcm.append(converter.process(piece))
            if not endless:
                size -= len(piece)

    def _trailer(self, converter: PcmConverter, size: int) -> Generator[int, bytes, bytes]:
        """Skips the chunks after the samples; returns the form of the stream that follows."""
        begin = yield 1 + size % 2  # samples of an odd size are padded
        head = begin[size % 2 :] + (yield 7)
        while True:
            name, size = _CHUNK.unpack(head)
            if name in _FORMS:
                return head + (yield 4)
            if name not in _TRAILING_CHUNKS:
                # the size was written before the recording had ended: these are samples too
                self._pcm.append(converter.process(head))
                yield from self._samples(converter, _ENDLESS)
            yield from self._skip(size + size % 2)
            head = yield 8


def _pcm_format(body: bytes) -> PcmFormat:
    """Reads the `fmt ` chunk: WAVEFORMATEX, or WAVEFORMATEXTENSIBLE with its sub-format."""
    if len(body) < 16:
        raise AudioMalformed("The WAV header is damaged.")
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 40 and body[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", body, 24)
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None:
        raise UnsupportedAudio(f"WAV of the kind {tag:#06x} with {bits} bits is not supported.")
    source = PcmFormat(encoding, rate_hz, channels)
    if frame_bytes != source.bytes_per_frame:
        raise AudioMalformed("The WAV header contradicts itself about the size of a sample.")
    return source


def sniff(head: bytes, declared: StreamFormat) -> bool | None:
    """`RIFF`, its size, `WAVE`."""
    if len(head) >= 12:
        return head[:4] in _FORMS and head[8:12] == b"WAVE"
    return None if any(form.startswith(head[:4]) for form in _FORMS) else False


@hookimpl(trylast=True)
def tornado_live_codecs() -> list[Codec]:
    return [
        Codec(
            name="wav",
            summary="WAV, RF64: 8 to 32-bit integers, floats, mu-law, A-law",
            mime_types=("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"),
            sniff=sniff,
            open=lambda declared, limits: WavDecoder(limits),
            labels=("wave", "rf64"),
        )
    ]
