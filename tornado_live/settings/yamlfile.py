"""The only code that reads and writes YAML.

Of YAML 1.1 only what settings need: one document of mappings, lists, text, numbers, booleans and
null. Anchors, aliases and tags are refused (an alias can make a small file enormous), and so are
keys that stand twice, of which the last would silently win. Dates stay text.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from tornado_live.errors import SettingsError

MAX_FILE_BYTES = 2**20
MAX_DEPTH = 20

KeyPath = tuple[str | int, ...]
"""Where a value stands: `("auth", "keys", 0, "name")`."""

_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_CORE + name for name in ("null", "bool", "int", "float", "str"))
_TAGS: dict[type[yaml.Node], frozenset[str]] = {
    yaml.ScalarNode: _SCALAR_TAGS,
    yaml.SequenceNode: frozenset({_CORE + "seq"}),
    yaml.MappingNode: frozenset({_CORE + "map"}),
}
_ALIAS_TAG = "*"
_REFUSED = object()


@dataclass(slots=True)
class YamlFile:
    """What a file holds, and what is wrong with it.

    Attributes:
        name: the path as it was given, for messages.
        data: the mapping at its top, without the values that were refused.
        lines: the line, from 1, of every key and list item.
        problems: a sentence each, beginning with file and line.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def refuse(self, mark: Any, what: str) -> None:
        self.problems.append(f"{self.name}:{mark.line + 1}: {what}")

    def origin(self, path: KeyPath) -> str:
        """File and line of a key, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a file whose top is a mapping; an empty file is an empty mapping.

    Raises:
        SettingsError: every problem of the file, with its line.
    """
    file = read_yaml_file(path)
    if file.problems:
        raise SettingsError(file.problems)
    return file.data


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """As `read_yaml`, of a text that `name` stands for in messages."""
    file = YamlFile(name)
    _parse(text, file)
    if file.problems:
        raise SettingsError(file.problems)
    return file.data


def read_yaml_file(path: str | os.PathLike[str]) -> YamlFile:
    """As `read_yaml`, for a caller that has more to say before it gives up."""
    file = YamlFile(os.fspath(path))
    try:
        _parse(_read_text(Path(path)), file)
    except OSError as exc:
        file.problems.append(f"{file.name}: the file cannot be read: {exc.strerror}")
    except ValueError as exc:
        file.problems.append(f"{file.name}: {exc}")
    return file


def write_yaml(data: Any) -> str:
    """YAML text of plain values, keys in the order given."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))


def inline_yaml(value: Any) -> str:
    """One value on one line, as `read_yaml` understands it."""
    text = str(
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    )
    return text.strip().removesuffix("\n...")


def _parse(text: str, file: YamlFile) -> None:
    try:
        node = _Loader(text, file).get_single_node()
    except yaml.MarkedYAMLError as exc:
        problem = " ".join(part for part in (exc.context, exc.problem) if part)
        file.refuse(exc.problem_mark or exc.context_mark, f"this is not YAML: {problem}")
    except yaml.YAMLError as exc:
        file.problems.append(f"{file.name}: this is not YAML: {' '.join(str(exc).split())}")
    else:
        _Reader(file).read(node)


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError("the file is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ValueError("the file is not UTF-8 text") from exc


class _Loader(yaml.SafeLoader):
    """Composes without aliases, so that the nodes are a tree no larger than the file."""

    def __init__(self, stream: str, file: YamlFile) -> None:
        super().__init__(stream)
        self.file = file
        self.depth = 0
        self.yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALAR_TAGS]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        start: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode(_ALIAS_TAG, event.anchor, start, start)
        if event.anchor is not None:
            self.file.refuse(start, f"the anchor &{event.anchor} is not allowed; leave it out")
            event.anchor = None
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels", problem_mark=start)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Reader:
    """Turns nodes into values and notes every problem instead of stopping at the first."""

    def __init__(self, file: YamlFile) -> None:
        self.file = file
        self.constructor = SafeConstructor()

    def read(self, node: yaml.Node | None) -> None:
        data = None if node is None else self._value(node, ())
        if isinstance(data, dict):
            self.file.data = data
        elif node is not None and data is not None and data is not _REFUSED:
            self.file.refuse(node.start_mark, "this is not a mapping of keys to values")

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        if node.tag == _ALIAS_TAG:
            return self._refuse(node, f"the alias *{node.value} is not allowed; write the value again")
        if node.tag not in _TAGS[type(node)]:
            return self._refuse(node, f"the tag {node.tag} is not allowed; write a plain value")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, path)
        try:
            return self.constructor.construct_object(node)
        except (
            ValueError,
            LookupError,
        ):  # `0x_` or 5,000 digits pass for a number, `!!bool maybe` for a boolean
            return self._refuse(node, f"{node.value[:40]!r} is not a {node.tag.removeprefix(_CORE)}")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        seen = set()
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str) or key_node.tag == _ALIAS_TAG:
                self._refuse(key_node, "a key must be text")
            elif key in seen:
                self._refuse(key_node, f"the key {key!r} stands twice; leave one of them out")
            else:
                seen.add(key)
                self.file.lines[*path, key] = key_node.start_mark.line + 1
                value = self._value(value_node, (*path, key))
                if value is not _REFUSED:
                    values[key] = value
        return values

    def _list(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        values: list[Any] = []
        for child in node.value:
            self.file.lines[*path, len(values)] = child.start_mark.line + 1
            value = self._value(child, (*path, len(values)))
            if value is not _REFUSED:
                values.append(value)
        return values

    def _refuse(self, node: yaml.Node, what: str) -> object:
        self.file.refuse(node.start_mark, what)
        return _REFUSED
