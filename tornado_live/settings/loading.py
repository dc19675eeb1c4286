"""Loads settings: collects them, checks them, and reports every problem at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from tornado_live.errors import SettingsError
from tornado_live.settings.checks import contradictions, missing_key
from tornado_live.settings.layers import Layers, collect
from tornado_live.settings.models import Settings
from tornado_live.settings.problems import sentence
from tornado_live.settings.yamlfile import KeyPath

Origins = Callable[[KeyPath], str | None]
"""The place that a key was set at; None for a default."""


def load_settings(
    path: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Settings:
    """Defaults, then the YAML file, `.env` in the working directory, the environment, and flags.

    Args:
        path: the YAML file; otherwise the one `TORNADO_LIVE_CONFIG` names, otherwise the packaged
            `development.yaml`.
        overrides: what flags say, nested like the file: `{"server": {"port": 8080}}`.
        environ: instead of the process's environment.
        cwd: instead of the working directory, for `.env` and a relative `path`.

    Raises:
        SettingsError: all problems, each naming the place, the key, what is wrong and what to write.
    """
    return load_with_origins(path, overrides, environ, cwd)[0]


def load_with_origins(
    path: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> tuple[Settings, Origins]:
    """As `load_settings`, with what knows where each value was set."""
    layers = collect(path, overrides or {}, os.environ if environ is None else environ, cwd or "")
    settings, unusable = _validate(layers)
    for found in contradictions(settings):
        if not any(_overlap(key, bad) for key in (found.key, *found.also) for bad in unusable):
            keys = (tuple(key.split(".")) for key in (found.key, *found.also))
            layers.report(*keys, problem=f"{found.key}: {found.problem}")
    if layers.problems:
        raise SettingsError(layers.problems)
    return settings, layers.origin


def check_config(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Every reason why a server would not start with these settings; empty if there is none."""
    try:
        settings = load_settings(path, None, environ, cwd)
        require_key(settings)
    except SettingsError as exc:
        return exc.problems
    return []


def require_key(settings: Settings) -> None:
    """Raises SettingsError if there is neither a key for Gemini nor leave to use the emulator."""
    if problem := missing_key(settings):
        raise SettingsError([problem])


def _validate(layers: Layers) -> tuple[Settings, list[KeyPath]]:
    """Settings without what cannot be used, which is reported, and the paths of that.

    The rest is needed to look for contradictions: all problems are to be told at once.
    """
    data = layers.data
    unusable: list[KeyPath] = []
    while True:
        try:
            return Settings.model_validate(data), unusable
        except ValidationError as exc:
            errors = exc.errors()
        if data is layers.data:
            for error in errors:
                layers.report(error["loc"], problem=sentence(error))
        unusable += [error["loc"] for error in errors]
        for target in [_existing(data, error["loc"]) for error in errors]:
            data = _without(data, target)


def _existing(data: Any, path: KeyPath) -> KeyPath:
    """The path up to a list, or up to the mapping that a key is missing in."""
    depth = 0
    while depth < len(path) and isinstance(data, dict) and path[depth] in data:
        data = data[path[depth]]
        depth += 1
    return path[:depth]


def _without(data: dict[Any, Any], path: KeyPath) -> dict[Any, Any]:
    key, *rest = path
    if key not in data:
        return data
    if rest:
        return {**data, key: _without(data[key], tuple(rest))}
    return {name: value for name, value in data.items() if name != key}


def _overlap(key: str, path: KeyPath) -> bool:
    """Whether one of them is the other or stands inside it."""
    return all(one == other for one, other in zip(key.split("."), path, strict=False))
