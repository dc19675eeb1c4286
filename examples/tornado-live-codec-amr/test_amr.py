"""Run with `pytest`, after `pip install .`"""

import io
import math
import struct

import av
import pytest
from tornado_live_codec_amr import tornado_live_codecs

from tornado_live.plugins import CodecRegistry
from tornado_live.testing import codec_contract

SECONDS = 1


@pytest.fixture(scope="module")
def recording() -> bytes:
    """A tone of 440 Hz, encoded as a telephone does."""
    tone = [round(9_000 * math.sin(2 * math.pi * 440 * i / 8_000)) for i in range(8_000 * SECONDS)]
    frame = av.AudioFrame("s16", "mono", len(tone))
    frame.planes[0].update(struct.pack(f"<{len(tone)}h", *tone))
    frame.sample_rate = 8_000
    file = io.BytesIO()
    with av.open(file, "w", format="amr") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8_000, layout="mono")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_codec_keeps_the_contract(recording: bytes) -> None:
    (codec,) = tornado_live_codecs()
    pcm = codec_contract(codec, recording)
    assert len(pcm) / 32_000 == pytest.approx(SECONDS, abs=0.03)


def test_server_finds_it_by_its_entry_point() -> None:
    assert "amr" in CodecRegistry.load().supported
