"""Finding, loading and checking plugins, and choosing a stream's codec."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path

import pytest
from codec_kit import recording, registry

from tornado_live.audio import DecodeLimits, StreamFormat
from tornado_live.errors import AudioHeaderMissing, UnsupportedAudio
from tornado_live.plugins import CodecRegistry

PLUGIN = """
from tornado_live import hookimpl
from tornado_live.audio import Codec, StreamInfo

class Beep:
    info = StreamInfo("beep", "beep", 16000, 1)
    init_segment = b""
    def decode(self, data):
        return bytes(2 * len(data))
    def flush(self):
        return b""

@hookimpl
def tornado_live_codecs():
    return [Codec("NAME", "a test", ("audio/x-beep",), lambda head, declared: head.startswith(MAGIC),
                  lambda declared, limits: Beep())]
"""

WEBM = b"\x1a\x45\xdf\xa3"


def plugin(name: str = "beep", magic: bytes = b"BEEP") -> str:
    return PLUGIN.replace("NAME", name).replace("MAGIC", repr(magic))


def loaded(registry: CodecRegistry) -> dict[str, str]:
    return {each.codec.name: each.source for each in registry.codecs}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def write(folder: Path, name: str, source: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(source))


def test_built_in_codecs_come_in_by_the_entry_points_of_the_distribution() -> None:
    sources = loaded(CodecRegistry.load())
    assert {"pcm", "wav", "webm"} <= set(sources)
    assert all(source.startswith("tornado-live ") for source in sources.values())


def test_disabled_plugin_is_not_loaded() -> None:
    assert "webm" not in loaded(CodecRegistry.load(disabled=["webm"]))


def test_file_in_plugins_dir_is_loaded_and_asked_first(folder: Path) -> None:
    write(folder, "beep", plugin(magic=WEBM))
    found = CodecRegistry.load(plugins_dir=str(folder))
    assert loaded(found)["beep"] == "beep.py"
    codec = found.recognise(WEBM + bytes(20), StreamFormat("webm"))
    assert codec is not None
    assert codec.name == "beep"


def test_disabled_file_is_not_even_executed(folder: Path) -> None:
    write(folder, "beep", f"open({str(folder / 'executed')!r}, 'w')")
    CodecRegistry.load(disabled=["beep"], plugins_dir=str(folder))
    assert not (folder / "executed").exists()


def test_installed_distribution_is_loaded_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beep_codec.py").write_text(plugin())
    info = tmp_path / "beep_codec-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beep-codec\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[tornado_live]\nbeep = beep_codec\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert loaded(CodecRegistry.load())["beep"] == "beep-codec 2.5"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import nowhere_to_be_found", "No module named"),
        ("raise RuntimeError('no luck')", "no luck"),
        ("x = (", "SyntaxError"),
        (plugin().replace("def tornado_live_codecs", "def tornado_live_codec"), "tornado_live_codec"),
        (plugin().replace("tornado_live_codecs()", "tornado_live_codecs(formats)"), "formats"),
        (plugin().replace("return [Codec", "return [str] and [object] or [Codec"), "returned type"),
        (plugin().replace("return [Codec", "return 7 or [Codec"), "not iterable"),
        (plugin().replace("return [Codec", "1 / 0; return [Codec"), "division by zero"),
        (plugin().replace("lambda head, declared: head.startswith(b'BEEP')", "None"), "cannot be called"),
        (plugin().replace('("audio/x-beep",)', '"audio/x-beep"'), "not tuples"),
        (plugin(name="Béep"), "names a codec"),
        (plugin(name="webm"), "offers a codec 'webm'"),
        ("value = 1", "implements no hook"),
    ],
)
def test_broken_plugin_is_named_and_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture, source: str, complaint: str
) -> None:
    write(folder, "broken", source)
    write(folder, "works", plugin(name="works"))
    with caplog.at_level(logging.WARNING, "tornado_live.plugins"):
        names = loaded(CodecRegistry.load(plugins_dir=str(folder)))
    assert "works" in names
    assert {"pcm", "wav", "webm"} <= set(names)
    assert names.get("webm") != "broken.py"
    (warning,) = caplog.records
    assert "broken (broken.py) is left out" in warning.getMessage()
    assert complaint in warning.getMessage()


def test_name_of_a_disabled_codec_can_be_taken(folder: Path) -> None:
    write(folder, "mine", plugin(name="webm", magic=WEBM))
    assert loaded(CodecRegistry.load(disabled=["webm"], plugins_dir=str(folder)))["webm"] == "mine.py"


def test_missing_plugins_dir_is_said_and_does_not_stop_the_server(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "webm" in loaded(CodecRegistry.load(plugins_dir=str(folder / "nowhere")))
    assert "plugins_dir" in caplog.text


@pytest.mark.parametrize(
    ("head", "label", "name"),
    [
        (WEBM + bytes(40), "webm", "webm"),
        (WEBM + bytes(40), "audio/webm;codecs=opus", "webm"),
        (WEBM + bytes(40), "AUDIO/WebM; codecs=opus", "webm"),
        (WEBM + bytes(40), "wav", "webm"),
        (WEBM + bytes(40), "pcm", "webm"),
        (WEBM + bytes(40), "", "webm"),
        (WEBM + bytes(40), "audio/nonsense", "webm"),
        (b"RIFF\0\0\0\0WAVEfmt ", "webm", "wav"),
        (b"RIFF\0\0\0\0AVI LIST", "pcm", "pcm"),
        (bytes(40), "pcm", "pcm"),
        (bytes(40), "audio/L16;rate=8000", "pcm"),
        (b"\xff\xfb\x90\x00" + bytes(40), "s16le", "pcm"),
        (b"\xff\xf1\x50\x80" * 10, "pcm", "pcm"),
    ],
)
def test_bytes_decide_over_the_label(head: bytes, label: str, name: str) -> None:
    codec = registry().recognise(head, StreamFormat(label))
    assert codec is not None
    assert codec.name == name


@pytest.mark.parametrize("head", [b"\x1a", WEBM[:3], b"R", b"RIFF\0\0\0\0WAV"])
def test_more_bytes_are_asked_for_while_a_magic_may_still_follow(head: bytes) -> None:
    assert registry().recognise(head, StreamFormat("pcm")) is None
    at_the_end = registry().recognise(head, StreamFormat("pcm"), ended=True)
    assert at_the_end is not None
    assert at_the_end.name == "pcm"


@pytest.mark.parametrize("label", ["webm", "audio/webm;codecs=opus", "wav"])
def test_continuation_without_its_header_is_a_named_error(label: str) -> None:
    with pytest.raises(AudioHeaderMissing):
        registry().recognise(recording("webm_opus_250ms")[5], StreamFormat(label))


@pytest.mark.parametrize("label", ["", "audio/nonsense"])
def test_unknown_audio_is_refused_with_the_list_of_what_is_supported(label: str) -> None:
    with pytest.raises(UnsupportedAudio, match=r"pcm.*wav.*webm"):
        registry().recognise(bytes(100), StreamFormat(label))


def test_only_a_container_header_begins_a_stream_in_mid_session() -> None:
    first, *others = recording("webm_opus_250ms")
    declared = StreamFormat("webm")
    assert registry().begins_stream(first, declared)
    assert not any(registry().begins_stream(chunk, declared) for chunk in others)
    assert not registry().begins_stream(b"\xff\xfb\x90\x00" + bytes(2000), StreamFormat("mp3"))


def test_third_party_decoder_that_is_no_decoder_is_named(folder: Path) -> None:
    write(folder, "beep", plugin().replace("Beep())]", "object())]"))
    found = CodecRegistry.load(plugins_dir=str(folder))
    codec = found.recognise(b"BEEP", StreamFormat())
    assert codec is not None
    with pytest.raises(Exception, match="codec beep failed"):
        found.open(codec, StreamFormat(), DecodeLimits())


def test_sniff_that_raises_leaves_the_stream_to_the_others_and_is_switched_off(folder: Path) -> None:
    write(folder, "beep", plugin().replace("head.startswith", "head.no_such_method"))
    found = CodecRegistry.load(plugins_dir=str(folder))
    for _ in range(3):
        assert "beep" in found.supported
        codec = found.recognise(WEBM + bytes(20), StreamFormat("webm"))
        assert codec is not None
        assert codec.name == "webm"
    assert "beep" not in found.supported
