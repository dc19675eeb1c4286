"""The audit log: who did what, one line each, nothing of what was said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tornado_live.access.audit import Audit
from tornado_live.access.identity import Caller
from tornado_live.errors import AuthFailed, OriginRefused, RateLimited

MARY = Caller(owner="key:mary", name="mary", kind="key", fingerprint="0" * 64)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_session_leaves_its_start_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.session_started(MARY, "203.0.113.9", "session_1", model="gemini-3.8-live")
    audit.session_ended(MARY, "session_1", reason="ended", duration_ms=61_000, audio_ms=60_000, tokens=1234)
    audit.close()
    started, ended = entries(path)
    assert started.pop("timestamp").endswith("Z")
    assert started == {
        "event": "session_started",
        "owner": "key:mary",
        "kind": "key",
        "address": "203.0.113.9",
        "session_id": "session_1",
        "model": "gemini-3.8-live",
    }
    assert (ended["event"], ended["reason"], ended["tokens"]) == ("session_ended", "ended", 1234)


def test_a_stranger_who_is_refused_leaves_an_address_and_a_code(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.refused(AuthFailed(), None, "203.0.113.9", action="auth")
    audit.refused(OriginRefused(), MARY, "203.0.113.9", action="open_socket")
    audit.refused(RateLimited("The limit is 5.", retry_after_s=3), MARY, "203.0.113.9", action="transcribe")
    audit.close()
    stranger, mary, limited = entries(path)
    assert (stranger["event"], stranger["kind"], stranger["code"]) == ("refused", "stranger", "auth_failed")
    assert "owner" not in stranger
    assert (mary["owner"], mary["code"], mary["action"]) == ("key:mary", "origin_refused", "open_socket")
    assert (limited["event"], limited["limit"]) == ("limit_passed", "The limit is 5.")


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "a\u2028b", "\x1b[31mred", "%s %d", "{x}", '"},{"', "\0", "ü\ud800"]
)
def test_one_event_is_one_line_whatever_a_name_holds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.session_started(Caller(owner=f"token:{text}", name=text), text, text, model=text)
    audit.close()
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert not any(byte < 0x20 for byte in raw.rstrip(b"\n"))
    assert entries(path)[0]["session_id"] == text


def test_a_field_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.session_started(MARY, "203.0.113.9", "x" * 100_000, model="m")
    audit.close()
    assert path.stat().st_size < 1000


def test_the_file_may_be_rotated_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.session_started(MARY, "203.0.113.9", "one", model="m")
    path.rename(tmp_path / "audit.jsonl.1")
    audit.session_started(MARY, "203.0.113.9", "two", model="m")
    audit.close()
    assert [entry["session_id"] for entry in entries(path)] == ["two"]


def test_quiet_logging_does_not_silence_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        audit = Audit(str(path))
        audit.session_started(MARY, "203.0.113.9", "one", model="m")
        audit.close()
    finally:
        root.setLevel(level)
    assert len(entries(path)) == 1


def test_no_fingerprint_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.session_started(MARY, "203.0.113.9", "one", model="m")
    audit.refused(AuthFailed(), MARY, "203.0.113.9", action="auth")
    audit.close()
    assert MARY.fingerprint not in path.read_text()
