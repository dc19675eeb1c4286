"""Durations and sizes as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tornado_live.settings.units import (
    Duration,
    PositiveDuration,
    PositiveSize,
    Size,
    format_duration,
    format_size,
)

DURATION = TypeAdapter[float](Duration)
SIZE = TypeAdapter[int](Size)


@pytest.mark.parametrize(
    ("written", "seconds"),
    {
        "15m": 900,
        "1h30m": 5400,
        "2.5s": 2.5,
        "250ms": 0.25,
        "7d": 604_800,
        " 0s ": 0,
        "30": 30,
        45: 45,
        1.5: 1.5,
    }.items(),
)
def test_a_duration_is_seconds(written: Any, seconds: float) -> None:
    assert DURATION.validate_python(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", " ", "3 years", "15 min", "m", "-5s", "1e3", "5s3m", "nan", "inf", -1, True, False, None, [1]],
)
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(written)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("1MiB", 2**20),
        ("50 MB", 50_000_000),
        ("64KiB", 65_536),
        ("1.5kB", 1500),
        ("0", 0),
        ("512", 512),
        (70, 70),
    ],
)
def test_a_size_is_bytes(written: Any, size_bytes: int) -> None:
    assert SIZE.validate_python(written) == size_bytes


@pytest.mark.parametrize("written", ["", "1 mebibyte", "-1", "1TB", "MiB", -1, 1.5, True, None])
def test_what_is_no_size_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        SIZE.validate_python(written)


def test_where_nothing_makes_no_sense_nothing_is_refused() -> None:
    for refused in (TypeAdapter[float](PositiveDuration), TypeAdapter[int](PositiveSize)):
        with pytest.raises(ValidationError):
            refused.validate_python("0")


@given(st.floats(min_value=0, max_value=1e12) | st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_a_duration_that_was_shown_reads_as_the_same(seconds: float) -> None:
    assert DURATION.validate_python(format_duration(seconds)) == seconds


@given(st.integers(0, 2**45))
def test_a_size_that_was_shown_reads_as_the_same(size_bytes: int) -> None:
    assert SIZE.validate_python(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(900.0, "15m"), (5400, "1h30m"), (0.25, "250ms"), (2.5, "2.5s"), (604_800, "7d"), (0, "0s")],
)
def test_a_duration_is_shown_short(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size_bytes", "shown"), [(2**20, "1MiB"), (50_000_000, "50MB"), (65_536, "64KiB"), (1, 1), (0, 0)]
)
def test_a_size_is_shown_short(size_bytes: int, shown: str | int) -> None:
    assert format_size(size_bytes) == shown
