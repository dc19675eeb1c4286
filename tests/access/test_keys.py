"""API keys: made, kept as hashes, found, revoked without a restart."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tornado_live.access.keys import (
    KeyRing,
    create_key,
    describe_keys,
    fingerprint,
    generate,
    read_keys,
    revoke_key,
)
from tornado_live.errors import SettingsError
from tornado_live.settings import KeySettings

SECRET = "ak_only-for-this-test-0123456789"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_holds_256_random_bits() -> None:
    keys = {generate() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"ak_[A-Za-z0-9_-]{43}", key) for key in keys)


def test_a_key_of_the_settings_is_found_by_value_and_by_hash() -> None:
    by_value = KeyRing([KeySettings(name="a", secret=SECRET)])
    by_hash = KeyRing([KeySettings(name="a", sha256=fingerprint(SECRET))])
    for ring in (by_value, by_hash):
        found = ring.find(fingerprint(SECRET))
        assert found is not None
        assert found.name == "a"
        assert ring.find(fingerprint(SECRET + "x")) is None


def test_a_created_key_is_kept_only_as_its_hash(keys_file: Path) -> None:
    key = create_key(keys_file, "website", shared=True, limits={"sessions": 3, "tokens_per_day": 0})
    text = keys_file.read_text()
    assert key not in text
    assert key.removeprefix("ak_") not in text
    assert fingerprint(key) in text
    [entry] = read_keys(keys_file)
    assert entry.name == "website"
    assert entry.shared
    assert entry.limits is not None
    assert entry.limits.model_fields_set == {"sessions", "tokens_per_day"}


def test_the_keys_file_is_for_its_owner_only(keys_file: Path) -> None:
    create_key(keys_file, "website")
    assert keys_file.stat().st_mode & 0o777 == 0o600


def test_rewriting_keeps_what_the_other_keys_are_allowed(keys_file: Path) -> None:
    expires_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    create_key(keys_file, "first", scopes=["instructions:custom"], expires_at=expires_at)
    before = read_keys(keys_file)
    create_key(keys_file, "second")
    revoke_key(keys_file, "second")
    create_key(keys_file, "second")
    keys = read_keys(keys_file)
    assert keys[0] == before[0]
    assert keys[0].expires_at == expires_at
    assert [(key.name, key.revoked_at is not None) for key in keys] == [
        ("first", False), ("second", True), ("second", False),
    ]  # fmt: skip


def test_a_revoked_key_is_worthless_within_two_seconds_without_a_restart(keys_file: Path, clock) -> None:
    key = create_key(keys_file, "website")
    kept = create_key(keys_file, "kept")
    ring = KeyRing([], str(keys_file), monotonic=clock)
    assert ring.find(fingerprint(key)) is not None
    revoke_key(keys_file, "website")
    clock.advance(1.0)
    assert ring.find(fingerprint(key)) is None
    assert ring.find(fingerprint(kept)) is not None


def test_a_new_key_is_good_without_a_restart(keys_file: Path, clock) -> None:
    create_key(keys_file, "first")
    ring = KeyRing([], str(keys_file), monotonic=clock)
    key = create_key(keys_file, "second")
    clock.advance(1.0)
    assert ring.find(fingerprint(key)) is not None


def test_reload_does_not_wait_for_the_clock(keys_file: Path, clock) -> None:
    key = create_key(keys_file, "website")
    ring = KeyRing([], str(keys_file), monotonic=clock)
    revoke_key(keys_file, "website")
    ring.reload()
    assert ring.find(fingerprint(key)) is None


def test_a_key_expires(clock) -> None:
    at = datetime.fromtimestamp(clock.now, UTC) + timedelta(seconds=10)
    ring = KeyRing([KeySettings(name="a", secret=SECRET, expires_at=at)], clock=clock)
    clock.advance(9.9)
    assert ring.find(fingerprint(SECRET)) is not None
    clock.advance(0.1)
    assert ring.find(fingerprint(SECRET)) is None


def test_a_key_revoked_in_the_file_is_worthless_in_the_settings_too(keys_file: Path) -> None:
    key = create_key(keys_file, "a")
    revoke_key(keys_file, "a")
    ring = KeyRing([KeySettings(name="b", secret=key)], str(keys_file))
    assert ring.find(fingerprint(key)) is None


def test_two_valid_keys_of_one_name_are_refused(keys_file: Path) -> None:
    create_key(keys_file, "website")
    with pytest.raises(SettingsError, match="revoke it first"):
        create_key(keys_file, "website")
    with pytest.raises(SettingsError, match="'website'"):
        KeyRing([KeySettings(name="website", secret=SECRET)], str(keys_file))


def test_only_a_valid_key_can_be_revoked(keys_file: Path) -> None:
    create_key(keys_file, "website")
    revoke_key(keys_file, "website")
    with pytest.raises(SettingsError, match="no valid key"):
        revoke_key(keys_file, "website")


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "../up", "x" * 65, "münchen"])
def test_a_name_that_logs_could_trip_over_is_refused(keys_file: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        create_key(keys_file, name)
    assert not keys_file.exists()


@pytest.mark.parametrize(
    "text",
    ["", "keys: nothing", "other: []", "keys: [{name: a}]", "keys: [{name: a, sha256: abc}]",
     "keys: [{name: a, sha256: abc, secret: abcdefghijklmnop}]", "keys: [[]]", "keys: []\nmore: 1",
     "keys: [{name: a, shared: maybe, secret: abcdefghijklmnop}]"],
)  # fmt: skip
def test_a_wrong_keys_file_stops_the_start(keys_file: Path, text: str) -> None:
    keys_file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        KeyRing([], str(keys_file))
    assert "abcdefghijklmnop" not in str(caught.value)


def test_a_file_that_becomes_wrong_or_goes_away_leaves_the_last_keys_in_force(keys_file: Path, clock) -> None:
    key = create_key(keys_file, "website")
    ring = KeyRing([], str(keys_file), monotonic=clock)
    keys_file.write_text("keys: [")
    clock.advance(1.0)
    assert ring.find(fingerprint(key)) is not None
    os.unlink(keys_file)
    clock.advance(1.0)
    assert ring.find(fingerprint(key)) is not None


def test_keys_are_described_without_their_hashes(keys_file: Path) -> None:
    create_key(keys_file, "website", shared=True, limits={"sessions": "3"}, scopes=["instructions:custom"])
    create_key(keys_file, "old", expires_at=datetime(2020, 1, 2, tzinfo=UTC))
    create_key(keys_file, "gone")
    revoke_key(keys_file, "gone")
    website, old, gone = describe_keys(keys_file)
    today = datetime.now(UTC).date().isoformat()
    assert website == ("website", "valid", today, "", "yes", "instructions:custom", "sessions=3")
    assert old[1:4] == ("expired", today, "2020-01-02")
    assert gone[1] == f"revoked {today}"


@pytest.mark.parametrize("limits", [{"sesions": 3}, {"sessions": "many"}, {"sessions": -1}, {"sessions": ""}])
def test_a_limit_that_there_is_not_is_refused(keys_file: Path, limits: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"sess?ions"):
        create_key(keys_file, "website", limits=limits)
    assert not keys_file.exists()


def test_a_failed_rewrite_leaves_the_old_file(keys_file: Path) -> None:
    create_key(keys_file, "website")
    before = keys_file.read_bytes()
    with pytest.raises(SettingsError):
        revoke_key(keys_file, "nobody")
    assert keys_file.read_bytes() == before
    assert list(keys_file.parent.iterdir()) == [keys_file]
