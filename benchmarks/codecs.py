"""What decoding costs, beside the floor and beside what people use instead.

    python benchmarks/codecs.py [--rounds 9] [--plot docs/codecs.png]

Every figure of a row comes from the same interleaved rounds, so the ratios hold whatever else the
machine does. The floor is a bare loop over the same libopus at 16 kHz mono, packets taken out of the
container beforehand, buffers reused. CPU is process time, of children too where there are any.
Needs the ffmpeg command; the plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import io
import itertools
import json
import os
import resource
import statistics
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import msgspec
import pybase64

from tornado_live.audio import DecodeLimits, StreamFormat
from tornado_live.plugins import CodecRegistry
from tornado_live_codecs import _opus
from tornado_live_codecs._webm import WebmDemuxer

DATA = Path(__file__).parents[1] / "tests" / "data"
SPEECH = DATA / "speech" / "jfk.wav"
PCM_BYTES_PER_S = 32_000
REGISTRY = CodecRegistry.load()

SESSIONS = 350
SESSION_SECONDS = 6.0
CHUNK_S = 0.3
SPEECH_24K = ("-c:a", "libopus", "-b:a", "24k", "-application", "voip", "-frame_duration", "60")


@dataclass
class Row:
    """One way to decode one recording: CPU in ms per second of audio, one figure a round."""

    name: str
    run: Callable[[], float]
    times: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def ratio(self, floor: Row) -> float:
        """Each round is compared with the floor of the same round."""
        return statistics.median(a / b for a, b in zip(self.times, floor.times, strict=True))


def measure(rows: list[Row], rounds: int) -> None:
    """Runs all rows in turn, `rounds` times, after one round to warm up."""
    for number in range(rounds + 1):
        for row in rows:
            gc.collect()
            before = _cpu_s()
            seconds = row.run()
            spent_ms = (_cpu_s() - before) * 1000
            if number:
                row.times.append(spent_ms / seconds)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + usage.ru_utime + usage.ru_stime


# Recordings


def recorded(name: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((DATA / "recordings" / name).glob("*.bin"))]


def encoded(suffix: str, *options: str, seconds: float = 55.0) -> list[bytes]:
    """A minute of speech as the ffmpeg command encodes it, in chunks of 300 ms on average."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"speech.{suffix}"
        command = ["ffmpeg", "-v", "error", "-nostdin", "-stream_loop", "4", "-i", str(SPEECH), *options]
        subprocess.run([*command, str(file)], check=True)
        data = file.read_bytes()
    size = max(1, round(len(data) * CHUNK_S / seconds))
    return [data[i : i + size] for i in range(0, len(data), size)]


def cut_as_chromium(data: bytes) -> list[bytes]:
    """A WebM stream in chunks of five packets, each of which ends one byte into the next block."""
    bounds, pos = [0], 0
    for i, packet in enumerate(packets_of([data])):
        pos = data.index(packet, pos)
        if i and i % 5 == 0:
            bounds.append(data.rindex(b"\xa3", 0, pos) + 1)
    return [data[a:b] for a, b in itertools.pairwise([*bounds, len(data)])]


def packets_of(chunks: list[bytes]) -> list[bytes]:
    found = WebmDemuxer(DecodeLimits()).feed(b"".join(chunks))
    return [item[0] for item in found if isinstance(item, tuple)]


# Ways to decode: each returns the seconds of audio that came out


def bare_loop(packets: list[bytes]) -> Callable[[], float]:
    library = _opus.libopus()
    assert library is not None
    decode = library.opus_decode
    pcm = ctypes.create_string_buffer(2 * _opus.MAX_PACKET_SAMPLES)
    state = ctypes.create_string_buffer(library.opus_decoder_get_size(1))

    def run() -> float:
        pcm_at, state_at = ctypes.addressof(pcm), ctypes.addressof(state)
        library.opus_decoder_init(state_at, 16_000, 1)
        samples = 0
        for packet in packets:
            samples += decode(state_at, packet, len(packet), pcm_at, _opus.MAX_PACKET_SAMPLES, 0)
        return samples / 16_000

    return run


def streamed(chunks: list[bytes], declared: StreamFormat = StreamFormat()) -> Callable[[], float]:
    """The server's way, its registry and guard included."""

    def run() -> float:
        codec = REGISTRY.recognise(chunks[0], declared, ended=True)
        assert codec is not None
        decoder = REGISTRY.open(codec, declared, DecodeLimits())
        return (sum(len(decoder.decode(chunk)) for chunk in chunks) + len(decoder.flush())) / PCM_BYTES_PER_S

    return run


class _Message(msgspec.Struct):
    type: str
    audio_data: str
    format: str


def streamed_from_json(chunks: list[bytes]) -> Callable[[], float]:
    """The same, from the JSON messages that a browser sends."""
    messages = [
        json.dumps(
            {"type": "audio_chunk", "audio_data": b64encode(chunk).decode(), "format": "webm"}
        ).encode()
        for chunk in chunks
    ]
    parse = msgspec.json.Decoder(_Message).decode

    def run() -> float:
        codec = REGISTRY.recognise(chunks[0], StreamFormat("webm"))
        assert codec is not None
        decoder = REGISTRY.open(codec, StreamFormat("webm"), DecodeLimits())
        pcm = 0
        for message in messages:
            pcm += len(decoder.decode(pybase64.b64decode(parse(message).audio_data, validate=True)))
        return pcm / PCM_BYTES_PER_S

    return run


class _BlockingFile(io.RawIOBase):
    """What `av.open` reads in a thread, while chunks arrive."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ended = False
        self._changed = threading.Condition()

    def readable(self) -> bool:
        return True

    def put(self, data: bytes) -> None:
        with self._changed:
            self._bytes += data
            self._ended = self._ended or not data
            self._changed.notify()

    def read(self, size: int = -1) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._bytes or self._ended)
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            return data


def pyav_in_a_thread(chunks: list[bytes]) -> Callable[[], float]:
    def run() -> float:
        file, samples = _BlockingFile(), 0

        def decode() -> None:
            nonlocal samples
            resampler = av.AudioResampler("s16", "mono", 16_000)
            with av.open(file, "r") as container:
                for frame in container.decode(audio=0):
                    samples += sum(out.samples for out in resampler.resample(frame))

        thread = threading.Thread(target=decode)
        thread.start()
        for chunk in [*chunks, b""]:
            file.put(chunk)
        thread.join()
        return samples / 16_000

    return run


def _ffmpeg(data: bytes) -> int:
    command = ["ffmpeg", "-v", "quiet", "-i", "pipe:", "-f", "s16le", "-ar", "16000", "-ac", "1", "pipe:"]
    return len(subprocess.run(command, input=data, capture_output=True, check=False).stdout)


def ffmpeg_a_session(chunks: list[bytes]) -> Callable[[], float]:
    return lambda: _ffmpeg(b"".join(chunks)) / PCM_BYTES_PER_S


def ffmpeg_a_chunk(chunks: list[bytes], seconds: float) -> Callable[[], float]:
    """Only the first chunk has a header, so only its audio comes out; the cost counts for all."""

    def run() -> float:
        for chunk in chunks[:4]:
            _ffmpeg(chunk)
        return seconds * 4 / len(chunks)

    return run


# Other figures


def first_chunk_ms(chunks: list[bytes]) -> float:
    """From a session's first chunk to its PCM, set-up included."""

    def once() -> float:
        begin = time.perf_counter()
        codec = REGISTRY.recognise(chunks[0], StreamFormat("webm"))
        assert codec is not None
        assert REGISTRY.open(codec, StreamFormat("webm"), DecodeLimits()).decode(chunks[0])
        return (time.perf_counter() - begin) * 1000

    return statistics.median(once() for _ in range(50))


def lag_ms(chunks: list[bytes], declared: StreamFormat) -> float:
    """Audio not yet out although all its bytes have arrived."""
    codec = REGISTRY.recognise(chunks[0], declared, ended=True)
    assert codec is not None
    decoder = REGISTRY.open(codec, declared, DecodeLimits())
    for chunk in chunks:
        decoder.decode(chunk)
    return len(decoder.flush()) / PCM_BYTES_PER_S * 1000


def session_kib(chunks: list[bytes], sessions: int = 1000) -> float:
    """Private memory that one more session takes, three chunks into it."""
    kept = []

    def open_one() -> None:
        codec = REGISTRY.recognise(chunks[0], StreamFormat("webm"))
        assert codec is not None
        decoder = REGISTRY.open(codec, StreamFormat("webm"), DecodeLimits())
        for chunk in chunks[:3]:
            decoder.decode(chunk)
        kept.append(decoder)

    for _ in range(50):
        open_one()
    before = _private_kib()
    for _ in range(sessions):
        open_one()
    return (_private_kib() - before) / sessions


def _private_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def real_time_ms(chunks: list[bytes]) -> tuple[float, float, float]:
    """Many sessions at once in one event loop on one core: p50, p99 from a chunk's arrival to its PCM,
    and the share of the core that was used."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    delays: list[float] = []

    async def session(start: float) -> None:
        loop = asyncio.get_running_loop()
        decoder = REGISTRY.open(webm, StreamFormat("webm"), DecodeLimits())
        for i, chunk in enumerate(chunks[: int(SESSION_SECONDS / CHUNK_S)]):
            arrival = start + i * CHUNK_S
            await asyncio.sleep(max(0.0, arrival - loop.time()))
            decoder.decode(chunk)
            if arrival > steady:
                delays.append((loop.time() - arrival) * 1000)

    async def everyone() -> None:
        nonlocal steady
        begin = asyncio.get_running_loop().time() + 0.5
        steady = begin + 1.5
        await asyncio.gather(*(session(begin + i * CHUNK_S / SESSIONS) for i in range(SESSIONS)))

    webm = REGISTRY.recognise(chunks[0], StreamFormat("webm"))
    assert webm is not None
    steady, before = 0.0, time.process_time()
    asyncio.run(everyone())
    used = (time.process_time() - before) / SESSION_SECONDS
    os.sched_setaffinity(0, cores)
    delays.sort()
    return statistics.median(delays), delays[int(0.99 * len(delays))], used


# The table


def tables(rounds: int) -> Iterator[tuple[str, list[Row]]]:
    recorder = recorded("webm_opus_250ms")
    speech = encoded(
        "webm", "-c:a", "libopus", "-b:a", "24k", "-application", "voip", "-frame_duration", "60"
    )
    firefox = recorded("ff_webm_opus_250ms")
    for title, chunks in (
        ("Chromium, 128 kbit/s, 60 ms packets", recorder),
        ("24 kbit/s speech, 60 ms packets", speech),
        ("Firefox, 128 kbit/s, 20 ms packets", firefox),
    ):
        rows = [
            Row("bare libopus loop (the floor)", bare_loop(packets_of(chunks))),
            Row("WebM", streamed(chunks)),
            Row("WebM from JSON and base64", streamed_from_json(chunks)),
        ]
        for suffix, name, options in (
            ("ogg", "Ogg", ("-page_duration", "300000")),
            ("mp4", "MP4", ("-movflags", "empty_moov+default_base_moof", "-frag_duration", "300000")),
        ):
            rows.append(Row(name, streamed(remuxed(chunks, suffix, *options))))
        rows.append(Row("PyAV av.open in a thread", pyav_in_a_thread(chunks)))
        rows.append(Row("ffmpeg, one process a session", ffmpeg_a_session(chunks)))
        if chunks is recorder:
            rows.append(Row("ffmpeg, one process a chunk", ffmpeg_a_chunk(chunks, 11.94)))
        measure(rows, rounds)
        yield title, rows


def remuxed(chunks: list[bytes], suffix: str, *options: str) -> list[bytes]:
    """The same packets in another container."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.webm", Path(folder) / f"target.{suffix}"
        source.write_bytes(b"".join(chunks))
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            "-i",
            str(source),
            "-c",
            "copy",
            *options,
            str(target),
        ]
        subprocess.run(command, check=True)
        data = target.read_bytes()
    size = -(-len(data) // len(chunks))
    return [data[i : i + size] for i in range(0, len(data), size)]


def other_figures(rounds: int) -> Iterator[tuple[str, str, str]]:
    """What, how much, and the limit."""
    recorder = recorded("webm_opus_250ms")
    speech = encoded(
        "webm", "-c:a", "libopus", "-b:a", "24k", "-application", "voip", "-frame_duration", "60"
    )
    worklet, same = recorded("pcm_s16le_48k_250ms"), recorded("pcm_s16le_16k_250ms")
    yield "memory of a session, at 1,000 of them", f"{session_kib(recorder):.1f} KiB", "32 KiB"
    yield "first chunk to its PCM, with set-up", f"{first_chunk_ms(recorder):.2f} ms", "1 ms"
    yield "lag, WebM", f"{lag_ms(recorder, StreamFormat('webm')):.2f} ms", "0"
    yield "lag, PCM at 48 kHz", f"{lag_ms(worklet, StreamFormat('pcm', 48_000)):.2f} ms", "2.1 ms"
    rows = [
        Row("PCM at 16 kHz, passed through", streamed(5 * same, StreamFormat("pcm"))),
        Row("PCM at 48 kHz", streamed(worklet, StreamFormat("pcm", 48_000))),
    ]
    measure(rows, rounds)
    for row, limit in zip(rows, ("0.01 ms/s", ""), strict=True):
        yield row.name, f"{row.median:.4f} ms/s", limit
    p50, p99, used = real_time_ms(speech)
    yield (
        f"a 300 ms chunk of {SESSIONS} real-time sessions, one core",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {used:.0%} of the core",
        "p99 6 ms",
    )


def plot(groups: list[tuple[str, list[Row]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(groups), figsize=(5 * len(groups), 4), sharey=True)
    for panel, (title, rows) in zip(panels, groups, strict=True):
        shown = [row for row in rows if row.ratio(rows[0]) < 20]
        ratios = [row.ratio(rows[0]) for row in shown]
        colours = [
            "0.6",
            *("C0" if row.name.startswith(("WebM", "Ogg", "MP4")) else "C1" for row in shown[1:]),
        ]
        bars = panel.barh([row.name for row in shown], ratios, color=colours)
        panel.bar_label(bars, fmt="%.2f", padding=2)
        panel.margins(x=0.15)
        panel.axvline(1.0, color="0.4", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("CPU per second of audio / floor")
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    groups = []
    for title, rows in tables(given.rounds):
        groups.append((title, rows))
        print(f"\n| {title} | CPU ms per s | ÷ floor |\n|---|---|---|")
        for row in rows:
            print(f"| {row.name} | {row.median:.2f} | {row.ratio(rows[0]):.2f} |", flush=True)
    print("\n| figure | measured | limit |\n|---|---|---|")
    for name, measured, limit in other_figures(given.rounds):
        print(f"| {name} | {measured} | {limit} |", flush=True)
    if given.plot:
        plot(groups, given.plot)


if __name__ == "__main__":
    main()
