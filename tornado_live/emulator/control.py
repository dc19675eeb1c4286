"""The control API: what is going on in an emulator, and a hand in it. JSON in, JSON out; no HTTP here.

GET    /__emu/                          engine and address
GET    /__emu/connections               the open connections
POST   /__emu/connections/N/send        sends the body as a server message
POST   /__emu/connections/N/close       closes it with `code` and `reason`
POST   /__emu/connections/N/abort       cuts it without a close frame
POST   /__emu/connections/N/freeze      stops reading and writing
GET    /__emu/journal                   the entries, filtered by `connection`, `dir` and `what`
DELETE /__emu/journal                   forgets them
PUT    /__emu/scenario                  the scenario of new connections
PUT    /__emu/scenarios/NAME            the scenario of new connections to `/scn/NAME`
POST   /__emu/refuse                    refuses TCP connections for `for_s` seconds
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tornado_live.emulator.scenarios import ScenarioError

if TYPE_CHECKING:
    from tornado_live.emulator.server import Emulator


@dataclass(frozen=True, slots=True)
class Request:
    """
    Attributes:
        path: without `/__emu/`.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes


class ControlError(Exception):
    """The request cannot be carried out: 400 or 404."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def answer(emulator: Emulator, request: Request) -> dict[str, Any]:
    """
    Raises:
        ControlError: there is no such thing, or the body is wrong.
    """
    match [request.method, *request.path.split("/")]:
        case ["GET", ""]:
            return {"engine": emulator.engine, "url": emulator.url, "caFile": emulator.ca_file}
        case ["GET", "connections"]:
            handlers = emulator.connections.values()
            return {"connections": [handler.conversation.describe() for handler in handlers]}
        case ["POST", "connections", number, ("send" | "close" | "abort" | "freeze") as deed]:
            return await _do(emulator, number, deed, _object(request.body))
        case ["GET", "journal"]:
            return {"entries": _journal(emulator, request.query)}
        case ["DELETE", "journal"]:
            emulator.journal.clear()
            return {}
        case ["PUT", "scenario"]:
            return _set_scenario(emulator, "", request.body)
        case ["PUT", "scenarios", name] if name:
            return _set_scenario(emulator, name, request.body)
        case ["POST", "refuse"]:
            emulator.refuse_for(_seconds(_object(request.body).get("for_s", 1.0)))
            return {}
    raise ControlError(404, "There is nothing at this address.")


async def _do(emulator: Emulator, number: str, deed: str, body: dict[str, Any]) -> dict[str, Any]:
    handler = emulator.connections.get(int(number)) if number.isdigit() else None
    if handler is None:
        raise ControlError(404, f"There is no open connection {number!r}.")
    if deed == "send":
        handler.outlet.send(body)
    elif deed == "abort":
        handler.abort()
    elif deed == "freeze":
        handler.freeze()
    else:
        code, reason = body.get("code", 1011), body.get("reason", "")
        if not isinstance(code, int) or not isinstance(reason, str):
            raise ControlError(400, "code must be a number and reason a text.")
        await handler.outlet.close(code, reason)
    return {}


def _journal(emulator: Emulator, query: Mapping[str, str]) -> list[dict[str, Any]]:
    wanted = {name: query[name] for name in ("connection", "dir", "what") if name in query}
    return [
        entry
        for entry in emulator.journal
        if all(str(entry[name]) == value for name, value in wanted.items())
    ]


def _set_scenario(emulator: Emulator, name: str, body: bytes) -> dict[str, Any]:
    try:
        emulator.set_scenario(name, _object(body))
    except ScenarioError as error:
        raise ControlError(400, str(error)) from error
    return {}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise ControlError(400, "The body is not JSON.") from error
    if not isinstance(value, dict):
        raise ControlError(400, "The body is not an object.")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 3600:
        raise ControlError(400, "for_s must be a number of seconds.")
    return float(value)
