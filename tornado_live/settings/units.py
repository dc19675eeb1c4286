"""How durations and sizes are written in settings, and how they are shown."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DURATION_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?")
_SIZE_UNITS = {
    None: 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip


def parse_duration(value: object) -> object:
    """`15m`, `1h30m`, `2.5s`, `250ms`, `7d` or a number of seconds, as seconds."""
    _refuse_bool(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise PydanticCustomError("duration", "not a duration")
    *parts, milliseconds = (float(part or 0) for part in match.groups())
    whole = sum(part * seconds for part, (_, seconds) in zip(parts, _DURATION_UNITS, strict=True))
    return whole + milliseconds / 1000


def parse_size(value: object) -> object:
    """`1MiB`, `50 MB`, `64KiB` or a number of bytes, as bytes."""
    _refuse_bool(value)
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise PydanticCustomError("size", "not a size")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def _refuse_bool(value: object) -> None:
    """YAML reads `on` and `yes` as booleans, and pydantic would take those for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("bool", "a boolean is not an amount")


def format_duration(seconds: float) -> str:
    """A short text that `parse_duration` reads as the same number of seconds."""
    milliseconds = round(seconds * 1000)
    if seconds < 1 and milliseconds / 1000 == seconds and milliseconds:
        return f"{milliseconds}ms"
    if seconds != int(seconds):
        return f"{Decimal(repr(seconds)):f}s"
    rest, parts = int(seconds), []
    for unit, length in _DURATION_UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_size(size_bytes: int) -> str | int:
    """What `parse_size` reads as the same number of bytes, in the largest unit that is exact."""
    for unit in ("GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if size_bytes and size_bytes % _SIZE_UNITS[unit] == 0:
            return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
    return size_bytes


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
"""Seconds; written `15m` in YAML."""
PositiveDuration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, allow_inf_nan=False)]
"""Seconds, where none at all would make no sense."""
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
"""Bytes; written `1MiB` in YAML."""
PositiveSize = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
"""Bytes, where none at all would make no sense."""
Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose."""
