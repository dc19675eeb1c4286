"""Where secrets come to light: row 18."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import traceback
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from callers import MARY
from raw import answer_to, connected, masked, request, status_of, upgrade
from support import Socket

from tornado_live.emulator import EmulatorOptions, EmulatorThread
from tornado_live.errors import SettingsError
from tornado_live.settings import Settings, load_settings, secret_values, show_settings

API = "/api/v1/live-audio"
COMMAND = Path(sys.executable).with_name("tornado-live")

CANARY = "ak_canary-77c1d0e0b7d24d0d-secret"


def settings_with_canaries() -> Settings:
    return Settings.model_validate(
        {
            "gemini": {"api_key": CANARY},
            "auth": {
                "mode": "jwt",
                "keys": [{"name": "web", "secret": CANARY}],
                "jwt": {
                    "issuer": "i",
                    "audience": "a",
                    "keys": [{"algorithm": "HS256", "secret": f"{CANARY}-{CANARY}"}],
                },
            },
            "limits": {"redis_url": f"redis://:{CANARY}@localhost"},
        }
    )


def where_secrets_show(settings: Any, show: Any, log: io.StringIO) -> list[str]:
    """Of seven places where settings are written down."""
    logging.getLogger("anything").warning("settings %s %r", settings, settings, extra={"settings": settings})
    try:
        assert settings is None
    except AssertionError:
        shown_traceback = traceback.format_exc() + "".join(
            traceback.TracebackException(*sys.exc_info()).format()
        )
        logging.getLogger("anything").exception("failed")
    places = {
        "str": str(settings),
        "repr": repr(settings),
        "f-string": f"{settings}",
        "dump": str(settings.model_dump_json()) if isinstance(settings, Settings) else json.dumps(settings),
        "show-config": show(settings),
        "traceback": shown_traceback,
        "log": log.getvalue(),
    }
    return [place for place, text in places.items() if CANARY in text]


def test_18_settings_keep_their_secrets(log: io.StringIO) -> None:
    assert where_secrets_show(settings_with_canaries(), show_settings, log) == []
    assert any(CANARY in secret for secret in secret_values(settings_with_canaries()))


def test_18_succeeds_unprotected(log: io.StringIO) -> None:
    assert where_secrets_show({"gemini": {"the_key": CANARY}}, str, log)


def test_18_a_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    short = CANARY[:15]
    path.write_text(
        f"gemini:\n  api_key: [{CANARY}]\nauth:\n  mode: keys\n  keys:\n"
        f"    - name: web\n      secret: {short}\n    - name: two\n      sha256: {CANARY}\n"
        f"      secret: {CANARY}\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(path, None, {}, tmp_path)
    told = "\n".join(caught.value.problems) + str(caught.value) + repr(caught.value)
    assert "auth.keys" in told
    assert short not in told


@pytest.mark.gen_test(timeout=30)
async def test_18_a_server_keeps_the_keys_it_is_sent(protected: Any, log: io.StringIO, capfd: Any) -> None:
    """In its answers, its log and its output, right and wrong keys alike."""
    answers = b""
    for key in (MARY, CANARY):
        for wire in (
            request("GET", f"{API}/sessions", X_API_Key=key),
            request("GET", f"{API}/sessions?api_key={key}", Authorization=f"Bearer {key}"),
            request("POST", f"{API}/session/start", {"session_id": 7, "token": key}, X_API_Key=key),
            upgrade(f"/ws/live-audio?token={key}", X_API_Key=key, Origin="https://evil.example"),
        ):
            answers += await answer_to(protected.port, wire, timeout_s=1)
    socket = await Socket.open(protected)
    await socket.send({"type": "api_key", "token": CANARY})
    answers += json.dumps(await socket.message()).encode()
    socket.close()
    await socket.closed()
    out, err = capfd.readouterr()
    written = answers.decode() + log.getvalue() + out + err
    assert MARY not in written
    assert CANARY not in written
    assert log.getvalue()


GOOGLE_KEY, CLIENT_KEY = "canary-of-google-0b9e7d4f", "canary-of-a-client-51c3a8e2"
SECRETS = {"GOOGLE_API_KEY": GOOGLE_KEY, "LIVE_API_KEY": CLIENT_KEY}


@pytest.fixture
def telltale_model() -> Iterator[EmulatorThread]:
    """A model that refuses every session, and quotes the key when it says why."""
    refusal = {"setup": {"close": {"code": 1008, "reason": f"API key {GOOGLE_KEY} is not valid."}}}
    emulator = EmulatorThread(EmulatorOptions(ears="scripted", voice="tone", scenario=refusal))
    emulator.start()
    yield emulator
    emulator.stop()


def process_title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/comm").read_text()


def show_config(file: Path, environment: dict[str, str]) -> str:
    command = [COMMAND, "show-config", "--config", file]
    shown = subprocess.run(command, env=environment, cwd=file.parent, capture_output=True, check=True)
    return (shown.stdout + shown.stderr).decode()


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().decode(errors="replace") for path in folder.iterdir()}


async def told_by(port: int) -> str:
    """What a client is told, with its own key and without one."""
    answers = b""
    for path in ("/", "/livez", "/readyz", "/metrics", f"{API}/sessions", f"{API}/session/s1/status"):
        answers += await answer_to(port, request("GET", path, X_API_Key=CLIENT_KEY), timeout_s=2)
    start = request("POST", f"{API}/session/start", {"session_id": "s1"}, X_API_Key=CLIENT_KEY)
    refused = await answer_to(port, start, timeout_s=10)
    assert status_of(refused) == 502
    async with connected(port) as (reader, writer):
        writer.write(upgrade(X_API_Key=CLIENT_KEY) + masked({"type": "hello"}))
        writer.write(masked({"type": "start_session"}))
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                answers += await reader.readuntil(b"upstream") + await reader.read(4096)
    return (answers + refused).decode(errors="replace")


@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_18_a_process_writes_its_secrets_nowhere(telltale_model: Any, tmp_path: Path) -> None:
    """Not into its output, log, title, files or answers, though the model itself quotes one of them."""
    settings = {
        "server": {"host": "127.0.0.1", "port": 0},
        "gemini": {"base_url": telltale_model.url, "ca_file": telltale_model.ca_file},
        "auth": {
            "mode": "keys",
            "keys": [{"name": "web", "secret": "${LIVE_API_KEY}"}],
            "audit_file": str(tmp_path / "audit.jsonl"),
        },
        "store": {"path": str(tmp_path / "store.sqlite3")},
        "logging": {"level": "debug", "format": "json"},
    }
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(settings))
    environment = {**os.environ, **SECRETS}
    serving = await asyncio.create_subprocess_exec(
        COMMAND, "serve", "--config", file, stdout=PIPE, stderr=STDOUT, env=environment, cwd=tmp_path
    )
    assert serving.stdout is not None
    written = ""
    while not (announced := re.search(r"tornado-live is at \S+:(\d+)/", written)):
        line = await asyncio.wait_for(serving.stdout.readline(), 20)
        assert line, written
        written += line.decode()
    told = await told_by(int(announced[1]))
    title = process_title(serving.pid)
    serving.terminate()
    rest, _ = await serving.communicate()
    places = {
        "output and log": written + rest.decode(),
        "answers": told,
        "title": title,
        "show-config": show_config(file, environment),
        **contents(tmp_path),
    }
    assert telltale_model.journal.select("opened")
    assert {"audit.jsonl", "store.sqlite3"} <= set(places)
    assert [name for name, text in places.items() if GOOGLE_KEY in text or CLIENT_KEY in text] == []
