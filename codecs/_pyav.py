"""What is left to PyAV (FFmpeg's libraries): resampling, mixing down, and every codec but Opus and PCM."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.filter import Graph
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from tornado_live.audio import TARGET, DecodeLimits, ExpansionMeter, StreamInfo
from tornado_live.errors import AudioMalformed, AudioTooLong, LiveError, UnsupportedAudio

MAX_DAMAGED_PACKETS = 50
"""One second of packets of 20 ms."""

# PyAV's type stub leaves the constructor out.
_new_side_data = cast(Callable[[int, int], PacketSideData], PacketSideData)


class PacketDecoder(Protocol):
    """One stream's packets, taken out of their container, to `TARGET` PCM."""

    @property
    def codec(self) -> str:
        """The codec's name: `opus`."""

    @property
    def rate_hz(self) -> int:
        """Samples a second before resampling."""

    @property
    def channels(self) -> int:
        """Channels before mixing down."""

    @property
    def decoded_samples(self) -> int:
        """Samples at `rate_hz` that the packets have held so far, before any are left out."""

    @property
    def lost_bytes(self) -> int:
        """Bytes of packets that were damaged and are left out."""

    def accepts(self, packet: bytes) -> bool:
        """Whether the bytes may be a packet of this codec; asked to tell audio from debris."""

    def decode(self, packet: bytes, encoded_bytes: int, discard: int = 0) -> bytes:
        """Decodes one packet, which is not empty.

        Args:
            packet: the codec's bytes.
            encoded_bytes: how many bytes the packet took in its container.
            discard: samples at `rate_hz` to leave out at the packet's end.

        Raises:
            AudioMalformed: this is one of many damaged packets in a row; a single one is left out.
            AudioBomb: the packets claim more audio than their size can hold.
        """

    def flush(self) -> bytes:
        """Returns what the decoder or resampler still holds; nothing may be decoded afterwards."""


class Findings:
    """What is said of a stream, made anew only when it has changed: it is asked for after every chunk."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._key: tuple[str, int, int, int] | None = None
        self._info: StreamInfo | None = None

    def of(self, packets: PacketDecoder | None, lost_bytes: int) -> StreamInfo | None:
        """The stream's info; `packets` is None while there is no decoder, `lost_bytes` the container's."""
        if packets is None:
            return None
        key = (packets.codec, packets.rate_hz, packets.channels, lost_bytes + packets.lost_bytes)
        if key != self._key:
            self._key, self._info = key, StreamInfo(self._container, *key)
        return self._info


class Damage:
    """Counts damaged packets, which are left out, and gives up where nothing else arrives.

    Attributes:
        in_a_row: to be set to 0 when a good packet arrives.
    """

    def __init__(self) -> None:
        self.lost_bytes = 0
        self.in_a_row = 0

    def count(self, codec: str, encoded_bytes: int) -> None:
        self.lost_bytes += encoded_bytes
        self.in_a_row += 1
        if self.in_a_row > MAX_DAMAGED_PACKETS:
            raise AudioMalformed(f"The {codec} audio is damaged beyond repair.")


class FrameResampler:
    """FFmpeg's frames to `TARGET`; where another kind of frame begins, what was held comes before it.

    A filter of 64 taps: 2.1 ms of delay, -91 dB at 8.5 kHz, flat to 7 kHz. Channels are mixed down by
    FFmpeg's matrix for their count, normalised, so that full scale in all of them does not clip.
    `av.AudioResampler` would do it too, with a thread for every core and stream.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._source: tuple[str, str, int] | None = None

    def process(self, frame: av.AudioFrame) -> bytes:
        """Returns the PCM that is ready."""
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        held = b""
        if source != self._source:
            held = self.flush()
            self._source, self._graph = source, _filters(*source)
        return held + self._pushed(frame)

    def flush(self) -> bytes:
        """Returns the PCM still held; the next frame begins anew."""
        held = self._pushed(None)
        self._source = self._graph = None
        return held

    def _pushed(self, frame: av.AudioFrame | None) -> bytes:
        if self._graph is None:
            return b""
        self._graph.push(frame)
        pcm: list[bytes] = []
        while True:
            try:
                ready = cast(av.AudioFrame, self._graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return b"".join(pcm)
            pcm.append(bytes(memoryview(ready.planes[0])[: 2 * ready.samples]))


def _filters(sample_format: str, layout: str, rate_hz: int) -> Graph:
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_abuffer(format=sample_format, layout=layout, sample_rate=rate_hz),
        graph.add("aresample", filter_size="64"),
        graph.add("aformat", sample_fmts="s16", sample_rates=str(TARGET.rate_hz), channel_layouts="mono"),
        graph.add("abuffersink"),
    ).configure()
    return graph


class Resampler:
    """Samples of any rate and channel count to `TARGET`, cut anywhere; see `FrameResampler`.

    Args:
        sample_format: FFmpeg's name of interleaved samples: `s16`, `s32`, `flt`, `dbl`.
    """

    def __init__(self, sample_format: str, rate_hz: int, channels: int) -> None:
        self._format = sample_format
        self._layout = channel_layout(channels)
        self._rate_hz = rate_hz
        self._resampler = FrameResampler()

    def process(self, data: bytes, frames: int) -> bytes:
        """Takes `frames` samples of every channel, interleaved; returns the PCM that is ready."""
        frame = av.AudioFrame(self._format, self._layout, frames)
        frame.planes[0].update(data)
        frame.sample_rate = self._rate_hz
        return self._resampler.process(frame)

    def flush(self) -> bytes:
        return self._resampler.flush()


class PyavDecoder:
    """One of FFmpeg's decoders, with the resampler behind it; see `PacketDecoder`.

    Args:
        codec: FFmpeg's name of the decoder.
        extradata: the codec's set-up as its container carries it; may be empty.
        rate_hz, channels: as the container declares them; the decoder's own findings replace them.
        skip: samples at `rate_hz` to leave out at the start.
    """

    def __init__(
        self,
        codec: str,
        extradata: bytes,
        rate_hz: int,
        channels: int,
        limits: DecodeLimits,
        *,
        skip: int = 0,
        accepts: Callable[[bytes], bool] = bool,
    ) -> None:
        self.codec = codec
        self.rate_hz = rate_hz
        self.channels = channels
        self.accepts = accepts
        self.decoded_samples = 0
        self._skip = skip
        self._limits = limits
        self._meter = ExpansionMeter(limits)
        self._damage = Damage()
        self._resampler = FrameResampler()
        try:
            self._context = cast(AudioCodecContext, av.CodecContext.create(codec, "r"))
            self._context.thread_count = 1
            self._context.extradata = extradata or None
            self._context.sample_rate = rate_hz
            self._context.layout = channel_layout(channels)
            self._context.open()
        except Exception as exc:  # FFmpegError, but also ValueError, MemoryError and more, by version
            raise AudioMalformed(f"The {codec} header is damaged.") from exc

    @property
    def lost_bytes(self) -> int:
        return self._damage.lost_bytes

    def decode(self, packet: bytes, encoded_bytes: int, discard: int = 0) -> bytes:
        unit = av.Packet(packet)
        if self._skip or discard:
            # AV_PKT_DATA_SKIP_SAMPLES: how many from the start, how many from the end, two reasons
            side_data = _new_side_data(packet_sidedata_type_from_literal("skip_samples"), 10)
            side_data.update(struct.pack("<IIBB", self._skip, discard, 0, 0))
            side_data.to_packet(unit)
            self._skip = 0
        return self._decode(unit, encoded_bytes)

    def split(self, data: bytes | None) -> list[bytes]:
        """Cuts a byte stream without a container into packets, by FFmpeg's parser; None: it is over."""
        try:
            packets = self._context.parse(data)
            while data is None and (more := self._context.parse(None)):  # it gives one at a time
                packets += more
            return [bytes(packet) for packet in packets]
        except Exception as exc:
            raise AudioMalformed(f"The {self.codec} audio cannot be read.") from exc

    def flush(self) -> bytes:
        return self._decode(None, 0) + self._resampler.flush()

    def _decode(self, unit: av.Packet[Any] | None, encoded_bytes: int) -> bytes:
        try:
            frames = self._context.decode(unit)
        except av.error.InvalidDataError:
            self._damage.count(self.codec, encoded_bytes)
            return b""
        except Exception as exc:
            raise AudioMalformed(f"The {self.codec} audio cannot be decoded.") from exc
        if frames:
            self._damage.in_a_row = 0
        for frame in frames:
            self.decoded_samples += frame.samples
            self._meter.count(encoded_bytes, frame.samples / frame.sample_rate)
            encoded_bytes = 0
        return b"".join(map(self._convert, frames))

    def _convert(self, frame: av.AudioFrame) -> bytes:
        sound = (frame.sample_rate, frame.layout.nb_channels)
        if sound != (self.rate_hz, self.channels):
            # AAC tells only with its first frames whether it doubles the rate or the channels
            check_sound(*sound, self._limits)
            self.rate_hz, self.channels = sound
        return self._resampler.process(frame)


class WholeFileDecoder:
    """A container that FFmpeg reads only when it is complete; see `tornado_live.audio.AudioDecoder`."""

    init_segment = b""

    def __init__(self, name: str, limits: DecodeLimits) -> None:
        self.info: StreamInfo | None = None
        self._name = name
        self._limits = limits
        self._file = io.BytesIO()

    def decode(self, data: bytes) -> bytes:
        self._file.write(data)
        if self._file.tell() > self._limits.max_whole_bytes:
            raise AudioTooLong(
                f"An {self._name} file may be at most {self._limits.max_whole_bytes} bytes long."
            )
        return b""

    def flush(self) -> bytes:
        self._file.seek(0)
        try:
            with av.open(self._file, "r") as container:
                return b"".join(self._decoded(container))
        except LiveError:
            raise
        except Exception as exc:  # FFmpegError, but also IndexError, UnicodeDecodeError and more
            raise AudioMalformed(f"The {self._name} file cannot be decoded.") from exc

    def _decoded(self, container: av.container.InputContainer) -> Iterator[bytes]:
        if not container.streams.audio:
            raise UnsupportedAudio(f"The {self._name} file has no audio track.")
        stream = container.streams.audio[0]
        context = stream.codec_context
        check_sound(context.sample_rate, context.channels, self._limits)
        self.info = StreamInfo(self._name, context.name, context.sample_rate, context.channels)
        meter = ExpansionMeter(self._limits)
        resampler = FrameResampler()
        left_s = self._limits.max_whole_seconds
        for packet in container.demux(stream):
            for frame in packet.decode():
                seconds = frame.samples / frame.sample_rate
                left_s -= seconds
                if left_s < 0:
                    raise AudioTooLong
                meter.count(packet.size, seconds)
                yield resampler.process(frame)
        yield resampler.flush()


def check_sound(rate_hz: int, channels: int, limits: DecodeLimits) -> None:
    """Refuses what would cost too much to resample.

    Raises:
        UnsupportedAudio: the rate or the channel count is outside the limits.
    """
    if not limits.min_rate_hz <= rate_hz <= limits.max_rate_hz:
        raise UnsupportedAudio(
            f"The audio declares {rate_hz} samples a second; "
            f"{limits.min_rate_hz} to {limits.max_rate_hz} are supported."
        )
    if not 1 <= channels <= limits.max_channels:
        raise UnsupportedAudio(
            f"The audio declares {channels} channels; 1 to {limits.max_channels} are supported."
        )


def channel_layout(channels: int) -> str:
    """FFmpeg's name of its default layout of so many channels."""
    return f"{channels}c"
