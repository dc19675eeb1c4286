"""Writes `config/default.yaml` and `docs/settings.md` from the models.

Run `python -m tornado_live.settings.reference` after a change; a test holds both files to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tornado_live.settings.fields import expected, field_kinds, nullable, walk
from tornado_live.settings.layers import CONFIG_VARIABLE, PREFIX
from tornado_live.settings.models import Settings
from tornado_live.settings.show import indent, plain, values, yaml_line
from tornado_live.settings.yamlfile import KeyPath, inline_yaml

_INTRODUCTION = f"""# Settings

Made from `tornado_live/settings/models.py` by `python -m tornado_live.settings.reference`.

The settings are read, each over the one before it, from

1. the defaults below;
2. a YAML file: the one that `--config` names, else the one that the variable `{CONFIG_VARIABLE}` names,
   else the packaged `development.yaml`;
3. a file `.env` in the working directory;
4. the environment: `{PREFIX}SERVER__PORT=8080` sets `server.port`. A list is separated by commas or
   written as JSON. `PORT` sets `server.port` too, and the variables of `gemini.api_key_env` set
   `gemini.api_key`; the long names win over these;
5. flags of the command line.

An unknown key, a value of the wrong kind and settings that contradict each other stop the start, all
reported at once; `tornado-live check-config FILE` reports them without starting, `tornado-live show-config`
shows what is in force. Durations are written `250ms`, `30s`, `15m`, `1h30m` or `7d`, sizes `64KiB`, `1MiB`
or `50MB`. A secret can be written `${{VARIABLE}}`, which takes it from the environment. Relative paths
start at the working directory.
"""


def default_yaml() -> str:
    """Every key with its default, its meaning above it."""
    lines = ["# Every setting with its default. Copy the keys that you change; docs/settings.md says more."]
    for path, field, value in values(Settings()):
        if len(path) == 1:
            lines.append("")
        lines += [f"{indent(path)}# {line}" for line in _meaning(field).splitlines()]
        lines.append(yaml_line(path, field, value))
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """A table of keys for each section."""
    lines = [_INTRODUCTION]
    for section, field in Settings.model_fields.items():
        lines += [
            f"## {section}",
            "",
            _meaning(field),
            "",
            "| key | default | may be | meaning |",
            "|---|---|---|---|",
        ]
        lines += [_row(path, inner) for path, inner in walk() if path[0] == section and len(path) > 1]
        lines.append("")
    return "\n".join(lines)


def _row(path: KeyPath, field: FieldInfo) -> str:
    name = "".join("[]" if key == 0 else f".{key}" for key in path).lstrip(".")
    kinds = " or ".join(expected(kind) for kind in field_kinds(field)) + (
        " or null" if nullable(field) else ""
    )
    cells = [f"`{name}`", _default(field), kinds, _meaning(field)]
    return f"| {' | '.join(cell.replace('|', '&#124;').replace(chr(10), ' ') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "see below"
    return f"`{inline_yaml(plain(field, default))}`"


def _meaning(field: FieldInfo) -> str:
    """A field's own words, or those of the section that it is."""
    sections: Iterator[str | None] = (kind.model.__doc__ for kind in field_kinds(field) if kind.model)
    return field.description or next(sections, None) or ""


if __name__ == "__main__":
    Path("config/default.yaml").write_text(default_yaml(), encoding="utf-8")
    Path("docs/settings.md").write_text(markdown(), encoding="utf-8")
