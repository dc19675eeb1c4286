"""Reading YAML: strict, whole, and never surprised."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tornado_live.errors import SettingsError
from tornado_live.settings import parse_yaml, read_yaml, write_yaml
from tornado_live.settings.yamlfile import read_yaml_file


def problems_of(text: str | bytes, folder: Path) -> list[str]:
    path = folder / "x.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as caught:
        read_yaml(path)
    return [problem.removeprefix(str(path)) for problem in caught.value.problems]


def test_plain_values_are_read() -> None:
    text = "a: {b: [1, 2.5, yes, ~, 'x']}\nc: |\n  two\n  lines\n"
    assert parse_yaml(text, "x") == {"a": {"b": [1, 2.5, True, None, "x"]}, "c": "two\nlines\n"}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    assert parse_yaml(text, "x") == {}


def test_keys_are_text_and_dates_stay_text() -> None:
    assert parse_yaml("on: 1\n3000: 2\nwhen: 2026-01-31\nat: 2026-01-31T12:00:00Z\n", "x") == {
        "on": 1,
        "3000": 2,
        "when": "2026-01-31",
        "at": "2026-01-31T12:00:00Z",
    }


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": 1}


REFUSED: dict[str, tuple[str | bytes, list[str]]] = {
    "alias": ("a: &x 1\nb: *x\n", [":1: the anchor &x is not allowed", ":2: the alias *x is not allowed"]),
    "anchor": ("a: &x 1\n", [":1: the anchor &x"]),
    "merge": ("a: &x {b: 1}\nc:\n  <<: *x\n", [":1: the anchor", ":3: the alias"]),
    "alias as key": ("&x a: 1\n? *x\n: 2\n", [":1: the anchor", ":2: a key must be text"]),
    "duplicate": ("a: 1\nb: 2\na: 3\n", [":3: the key 'a' stands twice"]),
    "deep duplicate": ("s:\n  a: 1\n  a: 1\n", [":3: the key 'a' stands twice"]),
    "python object": ("a: !!python/object/apply:os.system [ls]\n", [":1: the tag tag:yaml.org,2002:python"]),
    "own tag": ("a: !secret x\n", [":1: the tag !secret"]),
    "set": ("a: !!set {x}\n", [":1: the tag"]),
    "wrong core tag": ("a: !!map x\n", [":1: the tag"]),
    "binary": ("a: !!binary aGk=\n", [":1: the tag"]),
    "no number": ("a: 0x_\nb: " + "1" * 5000 + "\n", [":1: '0x_' is not a int", ":2: '1111"]),
    "no boolean": ("a: !!bool maybe\n", [":1: 'maybe' is not a bool"]),
    "list as key": ("? [a]\n: 1\n", [":1: a key must be text"]),
    "list at the top": ("- a\n", [":1: this is not a mapping"]),
    "text at the top": ("hello\n", [":1: this is not a mapping"]),
    "broken": ("a: [1, 2\nb: 3\n", [":2: this is not YAML: while parsing a flow sequence"]),
    "tab": ("a:\n\tb: 1\n", [":2: this is not YAML"]),
    "two documents": ("a: 1\n---\nb: 2\n", [":2: this is not YAML"]),
    "unknown alias": ("a: *nowhere\n", [":1: the alias *nowhere"]),
    "control character": ("a: \x00\n", [": this is not YAML"]),
    "latin 1": (b"a: \xe9\n", [": the file is not UTF-8 text"]),
    "deep": ("a: " + "[" * 100_000, [":1: this is not YAML: more than 20 levels"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_settings_do_not_need_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    text, expected = REFUSED[case]
    found = problems_of(text, tmp_path)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)


def test_an_anchor_bomb_costs_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    began = time.monotonic()
    assert len(problems_of("\n".join(lines), tmp_path)) == 30 + 29 * 9
    assert time.monotonic() - began < 1


def test_a_file_over_one_mebibyte_is_refused_unread(tmp_path: Path) -> None:
    fits = "a: x\n" + "#" * (2**20 - 5)
    (tmp_path / "fits.yaml").write_text(fits)
    assert read_yaml(tmp_path / "fits.yaml") == {"a": "x"}
    assert problems_of(fits + "#", tmp_path) == [": the file is larger than 1 MiB"]


@pytest.mark.parametrize("path", ["missing.yaml", "", "with\0nul"])
def test_a_file_that_cannot_be_read_is_a_problem_not_a_crash(path: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_yaml(f"{tmp_path}/{path}")
    assert len(caught.value.problems) == 1


def test_lines_are_known_for_keys_and_list_items(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a:\n  b:\n    - c: 1\n    - d: 2\n")
    file = read_yaml_file(tmp_path / "x.yaml")
    lists = {("a", "b", 0): 3, ("a", "b", 0, "c"): 3, ("a", "b", 1): 4, ("a", "b", 1, "d"): 4}
    assert file.lines == {("a",): 1, ("a", "b"): 2, **lists}
    assert file.origin(("a", "b", 1, "nothing")).endswith("x.yaml:4")


def test_what_is_written_reads_as_the_same() -> None:
    data = {"z": [1, {"a": "yes", "b": None}], "a": "ünïcode: #", "n": "0x10", "date": "2026-01-31", "t": ""}
    assert parse_yaml(write_yaml(data), "x") == data
    assert list(parse_yaml(write_yaml(data), "x")) == list(data)
