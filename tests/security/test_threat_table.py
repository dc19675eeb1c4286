"""`docs/security.md` and the tests of this folder say the same."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "security.md"


def rows_of_tests() -> dict[int, set[str]]:
    rows = defaultdict(set)
    for path in HERE.glob("test_attack_*.py"):
        for name, row in re.findall(
            r"^(?:async )?def (test_(\d\d)_\w+)", path.read_text(encoding="utf-8"), re.M
        ):
            rows[int(row)].add(name)
    return rows


def rows_of_table() -> dict[int, set[str]]:
    rows = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].isdigit():
            rows[int(cells[0])] = set(re.findall(r"`(\w+)`", cells[4]))
    return rows


def test_the_table_has_25_rows() -> None:
    assert sorted(rows_of_table()) == list(range(1, 26))


def test_every_row_names_its_tests_and_no_others() -> None:
    assert rows_of_table() == rows_of_tests()


def test_every_row_is_shown_to_fail_somewhere() -> None:
    for row, tests in rows_of_tests().items():
        assert any(name.endswith("succeeds_unprotected") for name in tests), row
