"""Settings as YAML text: amounts readable, secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from tornado_live.settings.fields import field_kinds
from tornado_live.settings.models import Settings
from tornado_live.settings.units import format_duration, format_size, parse_duration, parse_size
from tornado_live.settings.yamlfile import KeyPath, inline_yaml, write_yaml

MASK = "**********"
"""What is shown of a secret."""

MAX_INLINE_CHARS = 100


def show_settings(settings: Settings, origin: Callable[[KeyPath], str | None] = lambda path: None) -> str:
    """Every key in force; where `origin` knows the place it was set at, a comment above it says so."""
    lines = []
    for path, field, value in values(settings):
        place = None if isinstance(value, BaseModel) else origin(path)
        if place:
            lines.append(f"{indent(path)}# {place}")
        lines.append(yaml_line(path, field, value))
    return "\n".join(lines) + "\n"


def secret_values(settings: BaseModel) -> tuple[str, ...]:
    """Every secret in force, to be kept out of logs."""
    return tuple(_secrets(settings))


def values(section: BaseModel, path: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo, Any]]:
    """Every key in force with its field and value; a section comes before what is in it."""
    for name, field in type(section).model_fields.items():
        here, value = (*path, name), getattr(section, name)
        yield here, field, value
        if isinstance(value, BaseModel):
            yield from values(value, here)


def yaml_line(path: KeyPath, field: FieldInfo, value: Any) -> str:
    """`key: value` with its indentation, on several lines where one would be too long."""
    head = f"{indent(path)}{path[-1]}:"
    if isinstance(value, BaseModel):
        return head
    written = plain(field, value)
    line = f"{head} {inline_yaml(written)}"
    if len(line) <= MAX_INLINE_CHARS or not isinstance(written, list | dict):
        return line
    inner = indent((*path, ""))
    return "\n".join([head, *(inner + part for part in write_yaml(written).splitlines())])


def indent(path: KeyPath) -> str:
    return "  " * (len(path) - 1)


def plain(field: FieldInfo, value: Any) -> Any:
    """A value as it is written in YAML: `900.0` of a duration as `15m`, a secret as `MASK`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        for kind in field_kinds(field):
            if kind.is_read_by(parse_duration):
                return format_duration(value)
            if kind.is_read_by(parse_size):
                return format_size(int(value))
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: plain(fields[name], getattr(value, name))
            for name in fields
            if name in value.model_fields_set
        }
    if isinstance(value, tuple):
        return [plain(field, item) for item in value]
    return value


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets(item)
