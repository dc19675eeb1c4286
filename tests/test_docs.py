"""Documents that must not rot are held equal to the code."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tornado_live import errors
from tornado_live.app import API, make_app
from tornado_live.handlers import connection
from tornado_live.settings import Settings
from tornado_live.wire import openapi, requests

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def families(base: type) -> list[type]:
    return [each for child in base.__subclasses__() for each in (child, *families(child))]


OWN_ERRORS = [each for each in families(errors.LiveError) if each.__module__ == errors.__name__]
LEAVES = [each for each in OWN_ERRORS if not [c for c in each.__subclasses__() if c in OWN_ERRORS]]


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.code)
def test_every_error_is_documented_as_it_is(error):
    retryable = "yes" if error.retryable else "no"
    row = f"| `{error.code}` | {error.status} | {error.close_code} | {retryable} | {error.default_message} |"
    assert row in PROTOCOL


def test_no_code_is_used_twice():
    codes = [error.code for error in LEAVES]
    assert len(codes) == len(set(codes))


def test_the_error_tree_is_drawn_as_it_is():
    drawn = re.findall(r"[├└]── (\w+)(?: +(\w+))?", errors.__doc__)
    assert {name for name, _ in drawn} == {error.__name__ for error in OWN_ERRORS}
    for name, code in drawn:
        if code and getattr(errors, name) in LEAVES:
            assert getattr(errors, name).code == code


def test_every_message_a_client_can_send_is_documented():
    for message in requests.ClientMessage.__args__:
        assert f"`{message.__struct_config__.tag}`" in PROTOCOL


def test_every_message_the_server_sends_is_documented():
    sent = set(connection._ERROR_TYPES.values())
    for path in (ROOT / "tornado_live" / "sessions", ROOT / "tornado_live" / "handlers"):
        for file in path.glob("*.py"):
            text = file.read_text(encoding="utf-8")
            sent |= set(re.findall(r'(?:Notice|_send|message)\(\s*"(\w+)"', text))
    missing = sorted(kind for kind in sent if f"`{kind}`" not in PROTOCOL)
    assert missing == []


def test_every_address_is_described():
    described = {operation.path for operation in openapi.OPERATIONS}
    services = SimpleNamespace(settings=Settings())
    rules = make_app(services).wildcard_router.rules
    routed = {rule.matcher.regex.pattern.rstrip("$") for rule in rules if hasattr(rule.matcher, "regex")}
    own = {
        pattern.removeprefix(API).replace("([^/]+)", "{session_id}") for pattern in routed if API in pattern
    }
    assert own == described
