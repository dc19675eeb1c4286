"""Where settings come from: the file, `.env`, the environment and flags, laid over each other."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.sources.utils import parse_env_vars

import tornado_live
from tornado_live.settings.fields import dotted, field_kinds, kinds_at
from tornado_live.settings.models import GeminiSettings, Settings
from tornado_live.settings.problems import suggestion
from tornado_live.settings.yamlfile import KeyPath, read_yaml_file

CONFIG_VARIABLE = "TORNADO_LIVE_CONFIG"
PREFIX = "TORNADO_LIVE__"
DELIMITER = "__"

Variables = Mapping[str, str | None]
Origin = Callable[[KeyPath], str]
"""Names the place that a key was set at."""

_REFERENCE = re.compile(r"\$\{(\w+)\}", re.ASCII)


class Layers:
    """Settings that are not checked yet, where each was set, and the problems found so far."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.problems: list[str] = []
        self._values: dict[KeyPath, Origin] = {}
        self._sections: dict[KeyPath, Origin] = {}

    def add(self, layer: Mapping[str, Any], origin: Origin) -> None:
        """Lays `layer` over what is there."""
        self._merge(self.data, layer, (), origin)

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at a path, or the list that it stands in, was set; None for a default."""
        return _nearest(self._values, path)

    def report(self, *keys: KeyPath, problem: str) -> None:
        """Notes a problem, at the first of these keys that was set, or at the section around the first."""
        places = (self.origin(key) for key in keys)
        place = next((place for place in places if place), None) or _nearest(self._sections, keys[0])
        self.problems.append(f"{place}: {problem}" if place else problem)

    def expand_references(self, variables: Variables) -> None:
        """Replaces `${NAME}` by the variable where a secret is expected, and nowhere else."""
        self._expand(self.data, (), variables)

    def _merge(self, base: dict[str, Any], layer: Mapping[str, Any], path: KeyPath, origin: Origin) -> None:
        for key, value in layer.items():
            here = (*path, key)
            if isinstance(value, Mapping):
                self._sections[here] = origin
                if not isinstance(base.get(key), dict):
                    base[key] = {}
                self._merge(base[key], value, here, origin)
            else:
                self._values[here] = origin
                base[key] = value

    def _expand(self, container: Any, path: KeyPath, variables: Variables) -> None:
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            here = (*path, key)
            if isinstance(value, dict | list):
                self._expand(value, here, variables)
            elif isinstance(value, str) and any(kind.type is SecretStr for kind in kinds_at(here)):
                container[key] = self._dereferenced(value, here, variables)

    def _dereferenced(self, value: str, path: KeyPath, variables: Variables) -> str:
        match = _REFERENCE.fullmatch(value.strip())
        if not match:
            return value
        if found := variables.get(match[1]):
            return found
        self.report(path, problem=f"{dotted(path)}: the environment variable {match[1]} is not set")
        return "?" * 64  # passes every check, so that nothing is reported twice


def collect(
    path: str | os.PathLike[str] | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str],
    cwd: str | os.PathLike[str],
) -> Layers:
    """Lays everything over each other: file, `.env`, environment, `overrides`."""
    layers = Layers()
    dotenv = _read_dotenv(Path(cwd, ".env"), layers)
    variables: Variables = {**dotenv, **environ}
    named = path or variables.get(CONFIG_VARIABLE)
    file = read_yaml_file(Path(cwd, named) if named else packaged("development.yaml"))
    layers.problems += file.problems
    # A section whose keys are all commented out reads as null.
    layers.add({section: keys for section, keys in file.data.items() if keys is not None}, file.origin)

    sources = [(".env: ", dotenv), ("environment variable ", environ)]
    nested = [_VariablesSource(names)() for _, names in sources]
    key_names = _api_key_names(overrides, *reversed(nested), file.data)
    for (place, names), keys in zip(sources, nested, strict=True):
        _report_unknown_sections(names, place, layers)
        for key_path, candidates in ((("server", "port"), ("PORT",)), (("gemini", "api_key"), key_names)):
            if name := next((name for name in candidates if names.get(name)), None):
                layers.add({key_path[0]: {key_path[1]: names[name]}}, _fixed(place + name))
        layers.add(keys, _variable_names(names, place))
    layers.add(overrides, _fixed("command line"))
    layers.expand_references(variables)
    return layers


def packaged(name: str) -> Path:
    """A file of the `config` folder, as installed or in a checkout that was never installed."""
    try:
        return Path(str(importlib.resources.files("tornado_live_config"))) / name
    except ModuleNotFoundError:
        return Path(tornado_live.__file__).parents[1] / "config" / name


class _VariableNames(BaseSettings, Settings):
    """The same keys, named as environment variables."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, env_ignore_empty=True, env_parse_none_str="null"
    )


class _VariablesSource(EnvSettingsSource):
    """Reads the variables it is given; lists as JSON or separated by commas."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        super().__init__(_VariableNames)

    def _load_env_vars(self) -> Variables:
        none = self.env_parse_none_str
        return parse_env_vars(self._variables, self.case_sensitive, self.env_ignore_empty, none)

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: str) -> Any:
        """What cannot be decoded stays text, to be reported together with all other problems."""
        if value.lstrip().startswith(("[", "{")):
            try:
                return json.loads(value)
            except ValueError:
                return value
        if field is not None and any(kind.items for kind in field_kinds(field)):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value


def _read_dotenv(path: Path, layers: Layers) -> Variables:
    try:
        return dotenv_values(path, interpolate=False) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        layers.problems.append(f"{path}: the file cannot be read: {reason}")
        return {}


def _api_key_names(*layers: Mapping[str, Any]) -> tuple[str, ...]:
    """`gemini.api_key_env` of the first layer that has it."""
    for layer in layers:
        section = layer.get("gemini")
        names = section.get("api_key_env") if isinstance(section, Mapping) else None
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return GeminiSettings().api_key_env


def _report_unknown_sections(names: Variables, place: str, layers: Layers) -> None:
    """The rest of a name is checked with its section, as in a file."""
    for name in names:
        section, *rest = name.lower().removeprefix(PREFIX.lower()).split(DELIMITER)
        if name.upper().startswith(PREFIX) and section not in Settings.model_fields:
            key = (section, *rest)
            layers.problems.append(f"{place}{name}: {dotted(key)}: unknown key; {suggestion(key)}")


def _variable_names(names: Variables, place: str) -> Origin:
    by_key = {name.upper(): name for name in names}

    def origin(path: KeyPath) -> str:
        for end in range(len(path), 0, -1):
            wanted = PREFIX + DELIMITER.join(str(part) for part in path[:end]).upper()
            if wanted in by_key:
                return place + by_key[wanted]
        # The key is missing, and its neighbours may come from several variables.
        return f"{place}{PREFIX}{DELIMITER.join(str(part) for part in path).upper()}"

    return origin


def _nearest(origins: Mapping[KeyPath, Origin], path: KeyPath) -> str | None:
    known = path
    while known and known not in origins:
        known = known[:-1]
    return origins[known](path) if known else None


def _fixed(text: str) -> Origin:
    return lambda path: text
