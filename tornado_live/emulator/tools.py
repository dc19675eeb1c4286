"""Function calling: which calls an answer asks for, and who waits for which response."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tornado_live.emulator.profiles import ModelProfile
from tornado_live.emulator.protocol import INVALID_ARGUMENT, ProtocolError
from tornado_live.emulator.scenarios import FunctionCall
from tornado_live.emulator.schema import FunctionResponse, Tool


@dataclass(slots=True)
class ToolRequest:
    """The calls of one answer.

    Attributes:
        blocking: the model says nothing until all responses are there.
        done: set when they are.
    """

    calls: list[dict[str, Any]]
    blocking: bool
    waiting: set[str]
    responses: list[FunctionResponse] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def outcome(self) -> str:
        """The results in words."""
        results = [
            f"{response.name or response.id} says {json.dumps(response.response, ensure_ascii=False)}."
            for response in self.responses
        ]
        return " ".join(results)


class Tools:
    """The functions that one connection has declared, and its open calls."""

    def __init__(self, profile: ModelProfile, declared: tuple[Tool, ...]) -> None:
        self._profile = profile
        self._open: list[ToolRequest] = []
        self._cancelled: set[str] = set()
        self._calls = 0
        self.declare(declared)

    def declare(self, tools: tuple[Tool, ...]) -> None:
        """
        Raises:
            ProtocolError: 1007, the model does not take functions of this behaviour.
        """
        self._profile.check_tools(tools)
        self._behavior = {
            function.name: function.behavior
            if function.behavior != "UNSPECIFIED"
            else self._profile.tool_behaviors[0]
            for tool in tools
            for function in tool.function_declarations
        }

    @property
    def is_open(self) -> bool:
        """Whether a response is awaited."""
        return bool(self._open)

    def calls_for(self, text: str) -> tuple[FunctionCall, ...]:
        """The declared functions that the user asks for: `call NAME`, `use NAME with {"key": "value"}`."""
        found = []
        for name in self._behavior:
            spoken = re.escape(name).replace("_", "[_ ]")
            match = re.search(rf"\b(?:call|use|run)\s+{spoken}\b(?:\s+with\s+(\{{.*\}}))?", text, re.I | re.S)
            if match is not None:
                found.append(FunctionCall(name=name, args=_arguments(match[1])))
        return tuple(found)

    def ask(self, calls: Iterable[FunctionCall]) -> ToolRequest:
        """Opens calls; what is sent as `toolCall` is `request.calls`."""
        asked = {f"function-call-{self._calls + nth}": call for nth, call in enumerate(calls, 1)}
        self._calls += len(asked)
        request = ToolRequest(
            calls=[{"id": id_, "name": call.name, "args": call.args} for id_, call in asked.items()],
            blocking=any(self._behavior.get(call.name) != "NON_BLOCKING" for call in asked.values()),
            waiting=set(asked),
        )
        self._open.append(request)
        return request

    def respond(self, response: FunctionResponse) -> ToolRequest | None:
        """Takes a response; returns the request that it completes, if it completes one.

        Raises:
            ProtocolError: 1007, no call has this id, or the model takes no `scheduling`.
        """
        if response.scheduling is not None and not self._profile.tool_scheduling:
            raise ProtocolError(1007, "Function response scheduling is not supported for this model")
        if response.id in self._cancelled:
            return None
        for request in self._open:
            if response.id in request.waiting:
                request.responses.append(response)
                if response.will_continue:
                    return None
                request.waiting.remove(response.id)
                if request.waiting:
                    return None
                self._open.remove(request)
                request.done.set()
                return request
        raise ProtocolError(1007, INVALID_ARGUMENT)

    def cancel(self) -> list[str]:
        """Drops all open calls and returns their ids, for `toolCallCancellation`."""
        ids = sorted(call for request in self._open for call in request.waiting)
        self._cancelled.update(ids)
        self._open.clear()
        return ids


def _arguments(written: str | None) -> dict[str, Any]:
    if written is None:
        return {}
    try:
        arguments = json.loads(written)
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}
