"""One server per store: held by a lock that ends with the process."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tornado_live.app import LiveServer
from tornado_live.errors import SettingsError
from tornado_live.settings import Settings
from tornado_live.store.lock import held


def test_a_store_is_held_once_and_again_when_it_is_free(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite3")
    for _ in range(2):
        with held(path), pytest.raises(BlockingIOError), held(path):
            pass


def test_another_name_of_the_store_is_no_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.sqlite3").symlink_to(tmp_path / "store.sqlite3")
    with held(str(tmp_path / "store.sqlite3")):
        for name in ("store.sqlite3", "link.sqlite3"):
            with pytest.raises(BlockingIOError), held(name):
                pass


def test_the_lock_file_is_for_its_owner_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with held(str(path)):
        pass
    [lock] = tmp_path.iterdir()
    assert lock.name == "store.sqlite3-lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


HOLDER = """
import sys, subprocess
from tornado_live.store.lock import held
with held(sys.argv[1]):
    child = subprocess.Popen(["sleep", "30"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_no_lock_though_its_children_live_on(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite3")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        with pytest.raises(BlockingIOError), held(path):
            pass
        holder.kill()
    try:
        with held(path):
            pass
    finally:
        subprocess.run(["kill", str(child)], check=True)


@pytest.mark.gen_test
async def test_a_server_says_in_one_sentence_why_its_store_cannot_be_used(
    unusable_path: Path,
) -> None:
    settings = Settings.model_validate(
        {"store": {"path": str(unusable_path)}, "gemini": {"api_key": "test-key"}}
    )
    server = LiveServer(settings)
    with pytest.raises(SettingsError) as refused:
        await server.start()
    [problem] = refused.value.problems
    assert problem.startswith(f"store.path: {unusable_path} cannot be used: ")
    assert problem.endswith("; set another file.")
