"""What the models say of themselves: which keys there are, and what may be written for each."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from tornado_live.settings.models import Settings
from tornado_live.settings.units import parse_duration, parse_size
from tornado_live.settings.yamlfile import KeyPath

_LIMITS = ("ge", "gt", "le", "min_length", "max_length", "pattern")
"""What pydantic's field limits call what they limit."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One alternative of a field's type, with what limits it."""

    type: Any
    limits: tuple[Any, ...] = ()

    def is_read_by(self, parser: object) -> bool:
        return any(isinstance(limit, BeforeValidator) and limit.func is parser for limit in self.limits)

    @property
    def model(self) -> type[BaseModel] | None:
        return self.type if isinstance(self.type, type) and issubclass(self.type, BaseModel) else None

    @property
    def items(self) -> tuple[Kind, ...]:
        """What a list holds; empty for everything else."""
        return kinds(get_args(self.type)[0]) if get_origin(self.type) is tuple else ()


def kinds(annotation: Any, limits: Iterable[Any] = ()) -> tuple[Kind, ...]:
    """The alternatives of a type, without null."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        for limit in more:
            limits = (*limits, *(limit.metadata if isinstance(limit, FieldInfo) else [limit]))
        return kinds(inner, limits)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for part in get_args(annotation) for kind in kinds(part, limits))
    return () if annotation is types.NoneType else (Kind(annotation, tuple(limits)),)


def field_kinds(field: FieldInfo) -> tuple[Kind, ...]:
    return kinds(field.annotation, field.metadata)


def nullable(field: FieldInfo) -> bool:
    return types.NoneType in get_args(field.annotation)


def expected(kind: Kind) -> str:
    """What to write, as the end of a sentence: `a whole number from 0 to 65535`."""
    if kind.is_read_by(parse_duration):
        return f"a duration{_range(kind)} such as 15m, 30s or 250ms"
    if kind.is_read_by(parse_size):
        return f"a size{_range(kind)} such as 64KiB, 1MiB or 50MB"
    if get_origin(kind.type) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind.type))
    if kind.items:
        item = kind.items[0]
        return "a list of mappings" if item.model else f"a list of {expected(item)}"
    if kind.model:
        return "a mapping of keys to values"
    if get_origin(kind.type) is dict:
        return "a mapping of text to text"
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        AwareDatetime: "a time with its zone such as 2026-01-31T12:00:00Z",
    }
    return words.get(kind.type, "text") + _range(kind)


def _range(kind: Kind) -> str:
    found = {
        name: getattr(limit, name, None) for name in _LIMITS for limit in kind.limits if hasattr(limit, name)
    }
    matching = f" that matches {found['pattern']}" if found.get("pattern") else ""
    if "min_length" in found:
        longest = f" and at most {found['max_length']}" if "max_length" in found else ""
        return f" of at least {found['min_length']}{longest} characters{matching}"
    if "gt" in found:
        return f" above {found['gt']}"
    if "le" in found:
        return f" from {found['ge']} to {found['le']}"
    if "ge" in found and kind.type is int and not kind.is_read_by(parse_size):
        return f" from {found['ge']} up"
    return matching


def child(kind: Kind, key: str | int) -> tuple[Kind, ...]:
    """What the value under a key, or at an index, may be; empty if there is no such key."""
    if isinstance(key, int):
        return kind.items
    if kind.model:
        field = kind.model.model_fields.get(key)
        return field_kinds(field) if field else ()
    return kinds(get_args(kind.type)[1]) if get_origin(kind.type) is dict else ()


def kinds_at(path: KeyPath) -> tuple[Kind, ...]:
    """What the value at a path may be; empty if the models have no such path."""
    found: tuple[Kind, ...] = (Kind(Settings),)
    for key in path:
        found = tuple(inner for kind in found for inner in child(kind, key))
    return found


def is_secret(path: KeyPath) -> bool:
    """Whether a value there, or anything in it, must not be shown."""
    return any(_holds_secret(kind) for kind in kinds_at(path))


def _holds_secret(kind: Kind) -> bool:
    if kind.model:
        fields = kind.model.model_fields.values()
        return any(_holds_secret(inner) for field in fields for inner in field_kinds(field))
    return kind.type is SecretStr or any(_holds_secret(item) for item in kind.items)


def walk(model: type[BaseModel] = Settings, path: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every key there is with its field, sections before what is in them; `0` stands for any list item."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        yield here, field
        for kind in field_kinds(field):
            if kind.model:
                yield from walk(kind.model, here)
            for item in kind.items:
                if item.model:
                    yield from walk(item.model, (*here, 0))


def dotted(path: KeyPath) -> str:
    """`auth.keys[0].name`"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
