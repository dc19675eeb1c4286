"""`convert`: the server's decoders from the shell."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from types import SimpleNamespace

import pytest
from codec_kit import DATA, decoded, encoded, recording, registry

from tornado_live.audio import StreamFormat
from tornado_live.convert import convert
from tornado_live.errors import AudioMalformed, EmptyAudio, LiveError, UnsupportedAudio

SPEECH = DATA / "speech" / "jfk.wav"


def samples(file: Path) -> bytes:
    with wave.open(str(file)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        return sound.readframes(sound.getnframes())


def test_recording_becomes_a_wav_file_and_the_progress_adds_up(tmp_path: Path) -> None:
    source, target = tmp_path / "speech.webm", tmp_path / "speech.wav"
    source.write_bytes(b"".join(recording("webm_opus_250ms")))
    progress: list[int] = []
    done = convert(str(source), str(target), registry(), progress.append)
    assert samples(target) == decoded(source.read_bytes())
    assert sum(progress) == source.stat().st_size
    assert done.codec == "webm"
    assert done.info is not None
    assert done.info.codec == "opus"
    assert done.seconds == len(samples(target)) / 32_000


def test_file_s_ending_is_the_label_of_raw_audio(tmp_path: Path) -> None:
    source, target = tmp_path / "speech.mulaw", tmp_path / "speech.wav"
    source.write_bytes(bytes(1600))
    assert convert(str(source), str(target), registry(), lambda size: None).codec == "pcm"
    given = StreamFormat("mulaw", 8_000)
    assert convert(str(source), str(target), registry(), lambda size: None, declared=given).seconds == 0.2


def test_standard_input_is_read_where_the_file_is_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = encoded("ogg", "-c:a", "libopus")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stream)))
    convert("-", str(tmp_path / "speech.wav"), registry(), lambda size: None)
    assert samples(tmp_path / "speech.wav") == decoded(stream)


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "speech.webm", tmp_path / "folder"
    source.write_bytes(b"".join(recording("webm_opus_250ms")))
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        convert(str(source), str(target), registry(), lambda size: None)
    assert target.is_dir()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyAudio),
        (b"no audio at all", UnsupportedAudio),
        (b"\x1a\x45\xdf\xa3" + bytes(50), AudioMalformed),
        (b"RIFF\0\0\0\0WAVEdata" + bytes(8), AudioMalformed),
    ],
)
def test_what_cannot_be_decoded_leaves_no_file(tmp_path: Path, data: bytes, error: type[Exception]) -> None:
    source, target = tmp_path / "speech", tmp_path / "speech.wav"
    source.write_bytes(data)
    with pytest.raises(error):
        convert(str(source), str(target), registry(), lambda size: None)
    assert not target.exists()


def test_what_was_there_stays_when_the_new_cannot_be_decoded(tmp_path: Path) -> None:
    source, target = tmp_path / "speech", tmp_path / "speech.wav"
    source.write_bytes(b"\x1aE\xdf\xa3" + bytes(200_000))
    target.write_bytes(b"kept")
    with pytest.raises(LiveError):
        convert(str(source), str(target), registry(), lambda size: None)
    assert target.read_bytes() == b"kept"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["speech", "speech.wav"]


def test_a_recording_can_be_converted_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "speech.wav"
    file.write_bytes(SPEECH.read_bytes())
    converted = convert(str(file), str(file), registry(), lambda size: None)
    assert converted.seconds == pytest.approx(11.0, abs=0.01)
    assert file.stat().st_size == 44 + round(converted.seconds * 32_000)
