"""What is written about the settings is what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tornado_live.settings import (
    AuthSettings,
    GeminiSettings,
    KeySettings,
    ServerSettings,
    Settings,
    load_settings,
    parse_yaml,
    secret_values,
    show_settings,
)
from tornado_live.settings.fields import dotted, walk
from tornado_live.settings.reference import default_yaml, markdown
from tornado_live.settings.show import MASK

ROOT = Path(__file__).parents[2]
REMEDY = "run: python -m tornado_live.settings.reference"

SECRETS = Settings(
    server=ServerSettings(port=4000, ping_interval=90.0),
    gemini=GeminiSettings(api_key=SecretStr("canary-google-key")),
    auth=AuthSettings(mode="keys", keys=(KeySettings(name="web", secret=SecretStr("canary-web-key-0123")),)),
)


def test_the_file_of_defaults_holds_every_key_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "config" / "default.yaml").read_text(encoding="utf-8")
    assert text == default_yaml(), REMEDY
    assert load_settings(ROOT / "config" / "default.yaml", environ={}, cwd=tmp_path) == Settings()
    written = parse_yaml(text, "default.yaml")
    for path, _ in walk():
        assert _stands_in(written, path), dotted(path)


def test_the_reference_in_the_documents_is_made_from_the_models() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown(), REMEDY


def test_every_setting_says_what_it_means() -> None:
    text = markdown()
    for path, field in walk():
        name = dotted(path).replace("[0]", "[]")
        assert len(path) == 1 or f"| `{name}` |" in text
        assert len(path) == 1 or field.description, f"{name} has no description"
        assert (field.description or ".").rstrip(")").endswith((".", "…")), name


def test_what_is_shown_masks_secrets_and_reads_as_yaml() -> None:
    text = show_settings(SECRETS)
    assert "canary" not in text
    shown = parse_yaml(text, "shown")
    assert shown["gemini"]["api_key"] == MASK
    assert shown["auth"]["keys"] == [{"name": "web", "secret": MASK}]
    assert shown["server"]["ping_interval"] == "1m30s"
    assert shown["server"]["max_message"] == "1MiB"


def test_what_is_shown_without_secrets_loads_as_the_same(tmp_path: Path) -> None:
    settings = Settings(
        server=ServerSettings(port=4000, ping_interval=90.0, trusted_proxies=("10.0.0.0/8",)),
        gemini=GeminiSettings(system_instruction="Say: yes\n# really", aliases={"no": "on", "1": "0x1"}),
    )
    (tmp_path / "shown.yaml").write_text(show_settings(settings))
    assert load_settings("shown.yaml", environ={}, cwd=tmp_path) == settings


def test_a_comment_says_where_a_value_was_set() -> None:
    def origin(path: tuple[str | int, ...]) -> str | None:
        return "environment variable PORT" if path == ("server", "port") else None

    lines = show_settings(SECRETS, origin).splitlines()
    assert lines[lines.index("  port: 4000") - 1] == "  # environment variable PORT"
    assert sum(line.lstrip().startswith("#") for line in lines) == 1


def test_no_secret_is_part_of_how_settings_print() -> None:
    for text in (repr(SECRETS), str(SECRETS), SECRETS.model_dump_json(), str(SECRETS.model_dump())):
        assert "canary" not in text


def test_all_secrets_are_known_to_who_must_keep_them_out_of_the_log() -> None:
    assert set(secret_values(SECRETS)) == {"canary-google-key", "canary-web-key-0123"}
    assert secret_values(Settings()) == ()


def _stands_in(written: Any, path: tuple[str | int, ...]) -> bool:
    """Under a key that is null or an empty list there is nothing to be written."""
    for key in path:
        if not isinstance(written, dict):
            return not written
        if key not in written:
            return False
        written = written[str(key)]
    return True
