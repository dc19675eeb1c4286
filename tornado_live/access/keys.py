"""API keys: 256 random bits each, known to the server only as SHA-256 hashes.

A fast hash is right here: nobody can go through 2^256 keys, so a slow one would only slow the server.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tornado_live.access.watched import WatchedFile
from tornado_live.errors import SettingsError
from tornado_live.settings import KeySettings, QuotaSettings, Scope
from tornado_live.settings.problems import sentence
from tornado_live.settings.yamlfile import read_yaml, write_yaml

PREFIX = "ak_"

_FILE_HEADER = """\
# API keys of tornado-live, written by `tornado-live keys`. The keys themselves are kept nowhere:
# sha256 is the hash of each. The server reads this file again when it changes.
"""


def generate() -> str:
    """A new key: `ak_` and 43 characters of base64url, 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def fingerprint(key: str) -> str:
    """The key's SHA-256 as hex: what files and memory hold instead of it."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyRing:
    """The keys of the settings and of the keys file, found by their fingerprints.

    Args:
        keys: listed in the settings.
        path: the keys file; None for none.
        clock: seconds since 1970, UTC; `monotonic` times how often the file is looked at.

    Raises:
        SettingsError: the file is missing or wrong, or two valid keys have the same name.
    """

    def __init__(
        self,
        keys: Iterable[KeySettings],
        path: str | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        # Lookups go by a hash keyed with this, so that how long one takes tells nothing about a stored one.
        self._blind = secrets.token_bytes(32)
        self._listed = tuple(keys)
        if path is None:
            self._file = None
            self._index = self._build(())
        else:
            self._file = WatchedFile(path, lambda file: self._build(read_keys(file)), clock=monotonic)

    def find(self, fingerprint: str) -> KeySettings | None:
        """The key of that fingerprint, unless it is unknown, revoked or expired."""
        index = self._file.value if self._file else self._index
        key = index.get(self._blinded(fingerprint))
        return key if key is not None and self._is_valid(key) else None

    def reload(self) -> None:
        """Reads the keys file again."""
        if self._file:
            self._file.reload()

    def __len__(self) -> int:
        return len(self._file.value if self._file else self._index)

    def _build(self, from_file: Iterable[KeySettings]) -> dict[bytes, KeySettings]:
        index: dict[bytes, KeySettings] = {}
        names: set[str] = set()
        for key in (*self._listed, *from_file):
            if key.revoked_at is None and key.name in names:
                raise SettingsError([f"Two API keys that are not revoked have the name {key.name!r}."])
            if key.revoked_at is None:
                names.add(key.name)
            hashed = key.sha256 or fingerprint(key.secret.get_secret_value() if key.secret else "")
            index[self._blinded(hashed)] = key
        return index

    def _is_valid(self, key: KeySettings) -> bool:
        if key.revoked_at is not None:
            return False
        return key.expires_at is None or self._clock() < key.expires_at.timestamp()

    def _blinded(self, hashed: str) -> bytes:
        return hashlib.blake2b(hashed.encode(), key=self._blind, digest_size=32).digest()


def read_keys(path: Path) -> list[KeySettings]:
    """The keys of a keys file, revoked and expired ones too.

    Raises:
        SettingsError: the file is missing, is not YAML, or holds something else than keys.
    """
    content = read_yaml(path)
    entries = content.get("keys")
    if not isinstance(entries, list) or len(content) > 1:
        raise SettingsError([f"{path}: needs a list `keys`, and nothing beside it"])
    keys: list[KeySettings] = []
    problems: list[str] = []
    for number, entry in enumerate(entries):
        try:
            keys.append(KeySettings.model_validate(entry))
        except ValidationError as error:
            # Never the input: it may be a secret in the wrong place.
            for problem in error.errors(include_url=False, include_context=False, include_input=False):
                place = ".".join(str(part) for part in ("keys", number, *problem["loc"]))
                problems.append(f"{path}: {place}: {problem['msg']}")
    if problems:
        raise SettingsError(problems)
    return keys


def create_key(
    path: Path,
    name: str,
    *,
    scopes: Iterable[Scope] = (),
    shared: bool = False,
    expires_at: datetime | None = None,
    limits: Mapping[str, object] | None = None,
) -> str:
    """Adds a new key to the file, which is made if need be, and returns the key: it is told only once.

    Args:
        limits: fields of QuotaSettings, which replace the same limits of the settings.

    Raises:
        SettingsError: the file is wrong, or a key of that name is still valid, or the name or a limit
            is not allowed.
    """
    keys = read_keys(path) if path.exists() else []
    if any(key.name == name and key.revoked_at is None for key in keys):
        raise SettingsError([f"{path}: there is already a key named {name!r}; revoke it first"])
    unknown = [limit for limit in limits or () if limit not in QuotaSettings.model_fields]
    if unknown:
        known = ", ".join(QuotaSettings.model_fields)
        raise SettingsError([f"there is no limit {limit!r}; there are {known}" for limit in unknown])
    secret = generate()
    try:
        entry = KeySettings.model_validate(
            {
                "name": name,
                "sha256": fingerprint(secret),
                "shared": shared,
                "scopes": tuple(scopes),
                "limits": limits or None,
                "created_at": datetime.now(UTC).replace(microsecond=0),
                "expires_at": expires_at,
            }
        )
    except ValidationError as error:
        raise SettingsError([_sentence(problem) for problem in error.errors()]) from None
    _write_keys(path, [*keys, entry])
    return secret


def describe_keys(path: Path) -> list[tuple[str, ...]]:
    """Of each key: name, state, created, expires, shared, scopes, limits, as words.

    Raises:
        SettingsError: the file is missing or wrong.
    """
    now = datetime.now(UTC)
    return [
        (
            key.name,
            _state(key, now),
            _day(key.created_at),
            _day(key.expires_at),
            "yes" if key.shared else "no",
            " ".join(key.scopes),
            " ".join(f"{name}={getattr(key.limits, name)}" for name in _limits_named(key)),
        )
        for key in read_keys(path)
    ]


def revoke_key(path: Path, name: str) -> None:
    """Makes the valid key of that name worthless; running servers follow within two seconds.

    Raises:
        SettingsError: the file is missing or wrong, or has no such key.
    """
    keys = read_keys(path)
    if not any(key.name == name and key.revoked_at is None for key in keys):
        raise SettingsError([f"{path}: there is no valid key named {name!r}"])
    now = datetime.now(UTC).replace(microsecond=0)
    _write_keys(
        path,
        [
            key.model_copy(update={"revoked_at": now}) if key.name == name and key.revoked_at is None else key
            for key in keys
        ],
    )


def _state(key: KeySettings, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "valid"


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).date().isoformat()


def _limits_named(key: KeySettings) -> list[str]:
    return [] if key.limits is None else sorted(key.limits.model_fields_set)


def _sentence(problem: ErrorDetails) -> str:
    """What is wrong with a key, in the words of the settings, where it would stand in a list."""
    problem["loc"] = ("auth", "keys", 0, *problem["loc"])
    return sentence(problem).removeprefix("auth.keys[0].")


def _write_keys(path: Path, keys: Iterable[KeySettings]) -> None:
    text = _FILE_HEADER + write_yaml({"keys": [_entry(key) for key in keys]})
    # A server that reads meanwhile sees the old file or the new one, never half of one.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _entry(key: KeySettings) -> dict[str, Any]:
    entry = key.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude={"secret"})
    if key.secret is not None:
        entry["sha256"] = fingerprint(key.secret.get_secret_value())
    return entry
