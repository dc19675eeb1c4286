"""What the tests of the store share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["folder", "no folder", "not a database"])
def unusable_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where no store can be."""
    path = tmp_path / "store.sqlite3"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "no folder":
        path = tmp_path / "none" / "store.sqlite3"
    else:
        path.write_bytes(b"not a database, but long enough to be taken for a page" * 100)
    return path
