"""Turns what pydantic found wrong into sentences that say what to write instead."""

from __future__ import annotations

import json
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from tornado_live.settings.fields import dotted, expected, is_secret, kinds_at, walk
from tornado_live.settings.yamlfile import KeyPath

MAX_SHOWN_CHARS = 60


def sentence(error: ErrorDetails) -> str:
    """What is wrong at `error["loc"]`, and what to write. It never shows a secret."""
    path = error["loc"]
    if error["type"] == "extra_forbidden":
        return f"{dotted(path)}: unknown key; {suggestion(path)}"
    if error["type"] == "value_error":  # a model's own check of what its keys say together
        return f"{dotted(path)}: {error['ctx']['error']}"
    wanted = " or ".join(expected(kind) for kind in kinds_at(path)) or "text"
    if error["type"] == "missing":
        return f"{dotted(path)}: missing; write {wanted}"
    return f"{dotted(path)}: {_shown(path, error['input'])} cannot be used; write {wanted}"


def suggestion(path: KeyPath) -> str:
    """What an unknown key may have been meant to be."""
    *parent, key = path
    models = [kind.model for kind in kinds_at(tuple(parent)) if kind.model]
    siblings = [name for model in models for name in model.model_fields]
    close = get_close_matches(str(key), siblings, 1) or [name for name in siblings if str(key) in name]
    if close:
        return f"did you mean {dotted((*parent, close[0]))!r}?"
    known = {dotted(found): found[-1] for found, _ in walk() if 0 not in found}
    elsewhere = [name for name, last in known.items() if last == key]
    if elsewhere or (elsewhere := get_close_matches(dotted(path), known, 1, 0.8)):
        return f"did you mean {elsewhere[0]!r}?"
    return f"known here: {', '.join(siblings)}"


def _shown(path: KeyPath, value: object) -> str:
    if is_secret(path) or path[-1] == "sha256":  # where the key itself is sometimes put
        return "the value"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
