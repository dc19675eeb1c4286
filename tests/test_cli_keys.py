"""`tornado-live keys`: what an operator types, from the first key to its end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tornado_live.access.keys import KeyRing, fingerprint

COMMAND = [sys.executable, "-c", "from tornado_live.cli import main; main()", "keys"]


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def keys(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, cwd=cwd)


def test_a_key_is_made_listed_and_revoked(keys_file: Path) -> None:
    file = str(keys_file)
    made = keys(
        "create", "website", "--file", file, "--shared", "--limit", "sessions=3", "--expires", "2099-01-31"
    )
    key = made.stdout.strip()
    assert re.fullmatch(r"ak_[A-Za-z0-9_-]{43}", key)
    found = KeyRing([], file).find(fingerprint(key))
    assert found is not None
    assert found.shared

    listed = keys("list", "--file", file).stdout
    for word in ("website", "valid", "2099-01-31", "sessions=3"):
        assert word in listed
    assert key not in listed
    assert fingerprint(key) not in listed

    assert keys("revoke", "website", "--file", file).returncode == 0
    assert KeyRing([], file).find(fingerprint(key)) is None
    assert "revoked" in keys("list", "--file", file).stdout


def test_the_file_of_the_settings_is_taken(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("auth:\n  mode: keys\n  keys_file: keys.yaml\n")
    assert keys("create", "website", "--config", str(config), cwd=tmp_path).returncode == 0
    assert (tmp_path / "keys.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("create", "two words"), "[A-Za-z0-9._-]"),
        (("create", "website", "--limit", "sesions=3"), "sesions"),
        (("create", "website", "--limit", "foo=3"), "there are requests_per_minute, messages_per_second, "),
        (("create", "website", "--limit", "sessions"), "sessions"),
        (
            ("create", "website", "--limit", "sessions=many"),
            "limits.sessions: 'many' cannot be used; write a",
        ),
        (("create", "website", "--scope", "all"), "instructions:custom"),
        (("revoke", "nobody"), "nobody"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(
    keys_file: Path, arguments: tuple[str, ...], word: str
) -> None:
    keys("create", "somebody", "--file", str(keys_file))
    before = keys_file.read_bytes()
    failed = keys(*arguments, "--file", str(keys_file))
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert word in failed.stderr
    assert failed.stdout == ""
    assert keys_file.read_bytes() == before
