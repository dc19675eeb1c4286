"""Where settings come from, and that every problem is told at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornado_live.errors import SettingsError
from tornado_live.settings import Settings, check_config, load_settings, load_with_origins, require_key
from tornado_live.settings.layers import packaged

CONFIG = Path(__file__).parents[2] / "config"

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads settings from a YAML text, a `.env` text, variables and flags, and nothing else."""

    def load(
        yaml: str = "", dotenv: str = "", environ: dict[str, str] | None = None, **overrides: Any
    ) -> Settings:
        (tmp_path / "live.yaml").write_text(yaml)
        (tmp_path / ".env").write_text(dotenv)
        return load_settings("live.yaml", overrides, environ or {}, tmp_path)

    return load


def problems(load: Load, yaml: str = "", **options: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(yaml, **options)
    return [problem.rpartition("/")[2] for problem in caught.value.problems]


def test_an_empty_file_gives_the_defaults(load: Load) -> None:
    assert load("") == Settings()
    assert load("server:\n  # port: 1\nlimits:\n") == Settings(), "a section with no keys left is empty"


def test_each_place_wins_over_the_one_before(load: Load) -> None:
    places: dict[str, Any] = {
        "yaml": "server: {port: 1001}",
        "dotenv": "PORT=1002\nTORNADO_LIVE__SERVER__PORT=1003\n",
        "environ": {"PORT": "1004"},
    }
    assert load(places["yaml"]).server.port == 1001
    assert load(places["yaml"], "PORT=1002\n").server.port == 1002
    assert load(places["yaml"], places["dotenv"]).server.port == 1003
    assert load(**places).server.port == 1004, "even a short name of the real environment is above .env"
    places["environ"]["TORNADO_LIVE__SERVER__PORT"] = "1005"
    assert load(**places).server.port == 1005
    assert load(**places, server={"port": 1006}).server.port == 1006


def test_places_complete_each_other_key_by_key(load: Load) -> None:
    settings = load(
        "server: {port: 1, ping_interval: 9s, ping_timeout: 9s}\ngemini: {vad: {prefix_padding_ms: 20}}",
        "TORNADO_LIVE__SERVER__MAX_BODY=1MiB",
        {"TORNADO_LIVE__GEMINI__VAD__END_SENSITIVITY": "high", "tornado_live__server__host": "127.0.0.2"},
        server={"websocket_port": 2},
    )
    assert settings.server.port == 1
    assert settings.server.ping_interval == 9
    assert settings.server.max_body == 2**20
    assert settings.server.host == "127.0.0.2"
    assert settings.server.websocket_port == 2
    assert settings.gemini.vad.prefix_padding_ms == 20
    assert settings.gemini.vad.end_sensitivity == "high"


@pytest.mark.parametrize(
    "written", ["https://a.example,https://b.example", '["https://a.example", "https://b.example"]']
)
def test_a_list_in_a_variable_is_separated_by_commas_or_json(load: Load, written: str) -> None:
    settings = load(environ={"TORNADO_LIVE__CORS__ORIGINS": written})
    assert settings.cors.origins == ("https://a.example", "https://b.example")


def test_a_variable_can_hold_a_whole_section_or_null_and_counts_not_when_empty(load: Load) -> None:
    settings = load(
        "server: {websocket_port: 3001}\nstore: {path: a.sqlite3}",
        environ={
            "TORNADO_LIVE__GEMINI__ALIASES": '{"My-Model": "gemini-3.8-live"}',
            "TORNADO_LIVE__LIMITS": '{"requests_per_minute": 7}',
            "TORNADO_LIVE__SERVER__WEBSOCKET_PORT": "null",
            "TORNADO_LIVE__STORE__PATH": "",
            "PORT": "",
        },
    )
    assert settings.gemini.aliases == {"My-Model": "gemini-3.8-live"}
    assert settings.limits.requests_per_minute == 7
    assert settings.server.websocket_port is None
    assert settings.store.path == "a.sqlite3"
    assert settings.server.port == 3000


def test_the_key_comes_from_the_variables_that_the_settings_name(load: Load) -> None:
    def key(*arguments: Any, **options: Any) -> str | None:
        secret = load(*arguments, **options).gemini.api_key
        return secret.get_secret_value() if secret else None

    both = {"GOOGLE_API_KEY": "google", "GEMINI_API_KEY": "gemini"}
    assert key() is None
    assert key(environ=both) == "google"
    assert key(environ={**both, "GOOGLE_API_KEY": ""}) == "gemini"
    assert key("gemini: {api_key: file}") == "file"
    assert key("gemini: {api_key: file}", "GEMINI_API_KEY=dotenv") == "dotenv"
    assert key("", "GOOGLE_API_KEY=dotenv", {"GEMINI_API_KEY": "real"}) == "real"
    assert key(environ={**both, "TORNADO_LIVE__GEMINI__API_KEY": "long"}) == "long"
    named = "gemini: {api_key_env: [MY_KEY]}"
    assert key(named, environ={**both, "MY_KEY": "mine"}) == "mine"
    assert key(named, environ={**both, "TORNADO_LIVE__GEMINI__API_KEY_ENV": "GEMINI_API_KEY"}) == "gemini"


def test_a_secret_can_name_a_variable_and_nothing_else_can(load: Load) -> None:
    yaml = (
        "auth: {mode: keys, keys: [{name: web, secret: '${WEB_KEY}'}, {name: app, secret: '${APP_KEY}'}]}\n"
        "gemini: {system_instruction: '${WEB_KEY}'}"
    )
    settings = load(yaml, "APP_KEY=app-key-from-dotenv", {"WEB_KEY": "web-key-from-environment"})
    secrets = [key.secret.get_secret_value() for key in settings.auth.keys if key.secret]
    assert secrets == ["web-key-from-environment", "app-key-from-dotenv"]
    assert settings.gemini.system_instruction == "${WEB_KEY}"
    assert problems(load, yaml, environ={"WEB_KEY": "web-key-from-environment"}) == [
        "live.yaml:1: auth.keys[1].secret: the environment variable APP_KEY is not set"
    ]


def test_the_file_is_the_argument_then_the_variable_then_the_packaged_one(tmp_path: Path) -> None:
    for name, port in (("one.yaml", 1), ("two.yaml", 2)):
        (tmp_path / name).write_text(f"server: {{port: {port}}}")
    environ = {"TORNADO_LIVE_CONFIG": "two.yaml"}
    assert load_settings("one.yaml", environ=environ, cwd=tmp_path).server.port == 1
    assert load_settings(environ=environ, cwd=tmp_path).server.port == 2
    assert load_settings(environ={}, cwd=tmp_path).server.websocket_port == 3001
    (tmp_path / ".env").write_text("TORNADO_LIVE_CONFIG=one.yaml")
    assert load_settings(environ={}, cwd=tmp_path).server.port == 1


def test_a_checkout_that_was_never_installed_finds_its_config_folder(tmp_path: Path) -> None:
    """`-S` hides what is installed, so that the folder's installed name does not exist."""
    packages = {
        str(Path(module.__file__ or "").parents[1]) for module in map(__import__, ["pydantic", "yaml"])
    }
    code = "from tornado_live.settings.layers import packaged; print(packaged('development.yaml').is_file())"
    path = os.pathsep.join([str(CONFIG.parent), *packages])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_every_problem_is_told_at_once_with_its_place_key_and_cure(load: Load) -> None:
    yaml = """server:
  prot: 3000
  port: many
  loop: fast
  processes: 3
  tls: {cert_file: 1}
  max_body: 0
  max_body: 1MiB
cors:
  origins: ['*']
  credentials: true
sessions:
  duration: 3 years
  idle_timeout: on
auth:
  keys: [ak_secret_in_the_wrong_place]
gemini: &anchor
  aliases: {a: 1}
  api_key_env: 5
logging: loud
port: 80
"""
    environ = {
        "PORT": "none",
        "TORNADO_LIVE__SERVR__PORT": "1",
        "TORNADO_LIVE__AUDIO__MAX_CHANELS": "2",
        "TORNADO_LIVE__METRICS": "{broken",
    }
    found = problems(load, yaml, environ=environ, sessions={"max": -1})
    variable = "environment variable "
    assert found == [
        "live.yaml:17: the anchor &anchor is not allowed; leave it out",
        "live.yaml:8: the key 'max_body' stands twice; leave one of them out",
        f"{variable}TORNADO_LIVE__SERVR__PORT: servr.port: unknown key; did you mean 'server.port'?",
        f"{variable}PORT: server.port: 'none' cannot be used; write a whole number from 0 to 65535",
        "live.yaml:6: server.tls.cert_file: 1 cannot be used; write text",
        "live.yaml:6: server.tls.key_file: missing; write text",
        "live.yaml:4: server.loop: 'fast' cannot be used; write one of auto, asyncio, uvloop",
        "live.yaml:7: server.max_body: 0 cannot be used; write a size above 0 such as 64KiB, 1MiB or 50MB",
        "live.yaml:2: server.prot: unknown key; did you mean 'server.port'?",
        "live.yaml:16: auth.keys[0]: the value cannot be used; write a mapping of keys to values",
        "live.yaml:13: sessions.duration: '3 years' cannot be used; "
        "write a duration above 0 such as 15m, 30s or 250ms",
        "live.yaml:14: sessions.idle_timeout: true cannot be used; "
        "write a duration above 0 such as 15m, 30s or 250ms",
        "command line: sessions.max: -1 cannot be used; write a whole number above 0",
        "live.yaml:19: gemini.api_key_env: 5 cannot be used; write a list of text",
        "live.yaml:18: gemini.aliases.a: 1 cannot be used; write text",
        f"{variable}TORNADO_LIVE__AUDIO__MAX_CHANELS: audio.max_chanels: unknown key; "
        "did you mean 'audio.max_channels'?",
        "live.yaml:20: logging: 'loud' cannot be used; write a mapping of keys to values",
        f"{variable}TORNADO_LIVE__METRICS: metrics: '{{broken' cannot be used; "
        "write a mapping of keys to values",
        "live.yaml:21: port: unknown key; did you mean 'server.port'?",
        "live.yaml:5: server.processes: several processes need a store that they share, "
        "which SQLite is not; write 1",
        "live.yaml:10: cors.origins: `*` with cors.credentials lets every page act as its visitor; "
        "write the origins themselves",
    ]


@pytest.mark.parametrize(
    ("yaml", "hint"),
    [
        ("sesions: {max: 1}", "did you mean 'sessions'?"),
        ("sessions: {idletimeout: 1m}", "did you mean 'sessions.idle_timeout'?"),
        ("idle_timeout: 1m", "did you mean 'sessions.idle_timeout'?"),
        ("gemini: {vad: {start: high}}", "did you mean 'gemini.vad.start_sensitivity'?"),
        (
            "auth: {mode: keys, keys: [{nam: x, name: x, sha256: " + "a" * 64 + "}]}",
            "did you mean 'auth.keys[0].name'?",
        ),
        ("metrics: {zzz: 1}", "known here: enabled"),
    ],
)
def test_an_unknown_key_comes_with_what_it_may_have_meant(load: Load, yaml: str, hint: str) -> None:
    [problem] = problems(load, yaml)
    assert problem.startswith("live.yaml:1: ")
    assert problem.endswith(f": unknown key; {hint}")


def test_a_wrong_value_hides_only_the_contradictions_it_takes_part_in(load: Load) -> None:
    """`mode: kyes` must not be told that mode none is dangerous on a public address."""
    found = problems(load, "server: {host: 0.0.0.0, processes: 2}\nauth: {mode: kyes}")
    assert [problem.split(": ")[1] for problem in found] == ["auth.mode", "server.processes"]


@pytest.mark.parametrize(
    "yaml",
    [
        "gemini: {api_key: [canary-secret-0123456]}",
        "gemini: canary-secret-0123456",
        "auth: {mode: keys, keys: [canary-secret-0123456]}",
        "auth: {mode: keys, keys: canary-secret-0123456}",
        "auth: {mode: keys, keys: [{name: x, secret: canary, sha256: 1}]}",
        "auth: {mode: keys, keys: [{name: x, secret: {canary: 1}}]}",
        "gemini: {base_url: 'https://user:canary@example.org'}",
        "limits: {redis_url: [canary]}",
        "canary_key: ${canary}",
    ],
)
def test_no_secret_is_ever_part_of_a_problem(load: Load, yaml: str) -> None:
    found = problems(load, yaml)
    assert found
    assert "canary" not in "\n".join(found).replace("canary_key", "")


def test_a_broken_dotenv_file_is_a_problem(load: Load, tmp_path: Path) -> None:
    (tmp_path / "live.yaml").write_text("")
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(SettingsError, match="not UTF-8 text"):
        load_settings("live.yaml", environ={}, cwd=tmp_path)


def test_every_value_knows_where_it_was_set(tmp_path: Path) -> None:
    (tmp_path / "live.yaml").write_text(
        "server:\n  port: 1\n  host: 127.0.0.1\ncors:\n  origins:\n    - http://a\n"
    )
    (tmp_path / ".env").write_text("GEMINI_API_KEY=k\n")
    environ = {"TORNADO_LIVE__SERVER__HOST": "::1"}
    _, origin = load_with_origins("live.yaml", {"logging": {"level": "debug"}}, environ, tmp_path)
    assert origin(("server", "port")) == f"{tmp_path}/live.yaml:2"
    assert origin(("cors", "origins", 0)) == f"{tmp_path}/live.yaml:6"
    assert origin(("server", "host")) == "environment variable TORNADO_LIVE__SERVER__HOST"
    assert origin(("gemini", "api_key")) == ".env: GEMINI_API_KEY"
    assert origin(("logging", "level")) == "command line"
    assert origin(("server", "processes")) is None


def test_a_missing_file_is_one_problem_that_names_it(tmp_path: Path) -> None:
    assert check_config("nothing.yaml", {}, tmp_path) == [
        f"{tmp_path}/nothing.yaml: the file cannot be read: No such file or directory"
    ]


def test_without_a_key_only_a_server_that_may_not_use_the_emulator_stops(load: Load) -> None:
    require_key(load(""))
    require_key(load("emulator: {mode: always}"))
    require_key(load("emulator: {mode: never}", environ={"GEMINI_API_KEY": "k"}))
    with pytest.raises(SettingsError, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        require_key(load("emulator: {mode: never}"))


PRODUCTION = {
    "GOOGLE_API_KEY": "google-key",
    "LIVE_API_KEY": "ak_0123456789abcdef0123456789abcdef",
    "TORNADO_LIVE__CORS__ORIGINS": "https://app.example.org",
}


@pytest.mark.parametrize(
    ("name", "environ"), [("default", {}), ("development", {}), ("production", PRODUCTION)]
)
def test_every_file_that_is_shipped_passes(name: str, environ: dict[str, str], tmp_path: Path) -> None:
    assert check_config(CONFIG / f"{name}.yaml", environ, tmp_path) == []
    assert packaged(f"{name}.yaml").read_bytes() == (CONFIG / f"{name}.yaml").read_bytes()


@pytest.mark.parametrize("missing", ["GOOGLE_API_KEY", "LIVE_API_KEY"])
def test_production_says_which_variable_is_missing(missing: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in PRODUCTION.items() if name != missing}
    [problem] = check_config(CONFIG / "production.yaml", environ, tmp_path)
    assert missing in problem


def test_production_is_closed_as_shipped() -> None:
    settings = load_settings(CONFIG / "production.yaml", environ=PRODUCTION)
    assert settings.auth.mode == "keys"
    assert settings.emulator.mode == "never"
    assert settings.logging.format == "json"
    assert settings.cors.origins == ("https://app.example.org",)
    without_origins = {name: PRODUCTION[name] for name in ("GOOGLE_API_KEY", "LIVE_API_KEY")}
    assert load_settings(CONFIG / "production.yaml", environ=without_origins).cors.origins == ()


def test_settings_made_in_code_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORNADO_LIVE__SERVER__PORT", "1")
    monkeypatch.setenv("GOOGLE_API_KEY", "k")
    assert Settings().server.port == 3000
    assert Settings().gemini.api_key is None
