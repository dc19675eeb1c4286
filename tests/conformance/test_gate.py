"""What the conformance suite's results are held to; `.ci/conformance` runs the suite itself."""

from __future__ import annotations

import pytest
from suite import KNOWN, worse


def result(behavior: str, close: str = "OK") -> dict[str, str]:
    return {"behavior": behavior, "behaviorClose": close}


def test_thirteen_cases_are_known_to_differ() -> None:
    assert len(KNOWN) == 13


def test_what_is_known_or_better_passes() -> None:
    cases = {"1.1.1": result("OK"), "7.1.6": result("INFORMATIONAL", "INFORMATIONAL")}
    cases |= {number: result(known) for number, known in KNOWN.items()}
    assert worse(cases) == []
    assert worse({number: result("OK") for number in KNOWN}) == []


@pytest.mark.parametrize(
    ("number", "behavior", "close"),
    [
        ("1.1.1", "NON-STRICT", "OK"),
        ("1.1.1", "FAILED", "OK"),
        ("1.1.1", "OK", "WRONG CODE"),
        ("1.1.1", "SOMETHING NEW", "OK"),
        ("6.4.1", "FAILED", "OK"),
        ("6.4.1", "NON-STRICT", "UNCLEAN"),
    ],
)
def test_what_got_worse_is_named(number: str, behavior: str, close: str) -> None:
    assert worse({number: result(behavior, close)}) == [f"{number}: {behavior}, close {close}"]
