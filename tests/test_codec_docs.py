"""docs/codecs.md is held equal to the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from codec_kit import registry

from tornado_live import hookspecs
from tornado_live.plugins import CodecRegistry, LoadedCodec
from tornado_live.testing import codec_contract

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "codecs.md").read_text(encoding="utf-8")
HOOKS = [name for name, each in vars(hookspecs).items() if hasattr(each, "tornado_live_spec")]
BUILT_IN = [loaded for loaded in registry().codecs if loaded.built_in]


@pytest.mark.parametrize("loaded", BUILT_IN, ids=lambda loaded: loaded.codec.name)
def test_every_codec_is_in_the_table_as_it_is(loaded: LoadedCodec) -> None:
    codec = loaded.codec
    mime_types = ", ".join(f"`{name}`" for name in codec.mime_types)
    labels = ", ".join(f"`{name}`" for name in codec.labels if name != codec.name)
    assert f"| `{codec.name}` | {codec.summary} | {mime_types} | {labels} | {codec.engine} |" in DOCS


def test_the_table_lists_no_codec_that_there_is_not() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", DOCS.split("## Limits")[0], re.MULTILINE)
    assert sorted(rows) == sorted(loaded.codec.name for loaded in BUILT_IN)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature(name: str) -> None:
    parameters = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    assert f"`{name}({parameters})" in DOCS


def test_the_shortest_plugin_works_and_keeps_the_contract(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(from tornado_live import hookimpl.*?)```", DOCS, re.DOTALL)
    (tmp_path / "morse.py").write_text(source)
    found = CodecRegistry.load(plugins_dir=str(tmp_path))
    (codec,) = [loaded.codec for loaded in found.codecs if loaded.source == "morse.py"]
    assert len(codec_contract(codec, b"MORSE" + bytes(range(256)))) == 2 * 8 * 256
