"""Every way in which the model closes, at every moment, and what the server makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClosedError

from survival.clients import Client, Refused
from survival.gemini import short_answers
from survival.processes import until
from tornado_live.app import LiveServer
from tornado_live.emulator import EmulatorOptions, EmulatorThread
from tornado_live.settings import Settings

WATCHED_S = 30.0
MAX_DIALS = 6

Moment = str
MOMENTS: tuple[Moment, ...] = ("connecting", "mid-turn", "resuming")


@dataclass(frozen=True)
class Closing:
    """One way to close.

    Attributes:
        kind: what it means: `passing`, `stale` (the handle is of no use), `quota` or `fatal`.
    """

    code: int
    reason: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.code} {self.reason}".strip()


CLOSINGS = (
    Closing(1000, "", "passing"),
    Closing(1001, "", "passing"),
    Closing(1006, "", "passing"),
    Closing(1007, "Request contains an invalid argument.", "stale"),
    Closing(1007, "Thinking level is not supported for this model", "fatal"),
    Closing(1007, "API key not valid. Please pass a valid API key.", "fatal"),
    Closing(1008, "models/x is not found for API version v1beta, or is not supported", "fatal"),
    Closing(1008, "Operation is not implemented, or supported, or enabled.", "passing"),
    Closing(1008, "BidiGenerateContent session not found", "stale"),
    Closing(1008, "The operation was aborted.", "passing"),
    Closing(1009, "", "stale"),
    Closing(1011, "Internal error occurred.", "passing"),
    Closing(1011, "The service is currently unavailable.", "passing"),
    Closing(1011, "Deadline expired before operation could complete.", "passing"),
    Closing(1011, "You exceeded your current quota, please check your plan", "quota"),
    Closing(1012, "", "passing"),
    Closing(1013, "", "passing"),
)

RIGHT: dict[tuple[str, Moment], tuple[str, ...]] = {
    # Nothing is there yet: whoever starts is told.
    ("passing", "connecting"): ("refused upstream_unavailable",),
    ("stale", "connecting"): ("refused upstream_refused",),
    ("fatal", "connecting"): ("refused upstream_refused",),
    ("quota", "connecting"): ("refused upstream_quota",),
    # The first connection is closed in the middle of an answer, all others are sound.
    ("passing", "mid-turn"): ("goes on, resumed",),
    ("stale", "mid-turn"): ("goes on, fresh",),
    ("fatal", "mid-turn"): ("failed upstream_refused",),
    ("quota", "mid-turn"): ("goes on, resumed",),
    # After that, every dial with a handle is closed this way; dials without one succeed.
    ("passing", "resuming"): ("goes on, fresh",),
    ("stale", "resuming"): ("goes on, fresh",),
    ("fatal", "resuming"): ("failed upstream_refused",),
    ("quota", "resuming"): ("goes on, fresh", "failed upstream_quota"),
}


@dataclass
class Reaction:
    """What was seen of one way to close at one moment."""

    closing: Closing
    moment: Moment
    seen: str
    dials: int

    @property
    def right(self) -> bool:
        return self.seen in RIGHT[self.closing.kind, self.moment] and self.dials <= MAX_DIALS


async def close_every_way(*, watched_s: float = WATCHED_S, at_once: int = 10) -> list[Reaction]:
    """Every closing at every moment, each on a server and a model of its own."""
    limit = asyncio.Semaphore(at_once)

    async def one(closing: Closing, moment: Moment) -> Reaction:
        async with limit:
            return await _react(closing, moment, watched_s)

    return await asyncio.gather(*(one(closing, moment) for closing in CLOSINGS for moment in MOMENTS))


async def _react(closing: Closing, moment: Moment, watched_s: float) -> Reaction:
    gemini = EmulatorThread(
        EmulatorOptions(ears="scripted", voice="tone", scenario=_scenario(closing, moment))
    )
    await asyncio.to_thread(gemini.start)
    server = LiveServer(_settings(gemini))
    try:
        await server.start()
        await server.ready()
        began = time.monotonic()
        seen = await _seen(server, gemini, closing, moment)
        # A storm would come now.
        await asyncio.sleep(max(0.0, watched_s - (time.monotonic() - began)))
        dials = len(gemini.journal.select("opened"))
    finally:
        await server.stop()
        await asyncio.to_thread(gemini.stop)
    return Reaction(closing, moment, seen, dials)


async def _seen(server: LiveServer, gemini: EmulatorThread, closing: Closing, moment: Moment) -> str:
    client = Client(server.port, "closed")
    try:
        await client.start()
        if moment == "connecting":
            return "started"
        if moment == "resuming":
            await _refuse_handles(gemini, closing)
        await client.text("say something")
        try:
            rotated = await client.message("upstream_rotated", timeout_s=40.0)
            await client.text("and more")
            await until(lambda: _was_answered(client, "and more"), 20.0)
        except WebSocketClosedError:
            return f"failed {client.all_of('error')[-1]['code']}"
        return f"goes on, {'resumed' if rotated['data']['resumed'] else 'fresh'}"
    except Refused as refused:
        return f"refused {refused.code}"
    except TimeoutError:
        return f"stuck after {[message['type'] for message in client.messages][-3:]}"
    finally:
        with contextlib.suppress(WebSocketClosedError):
            await client.drop()


def _was_answered(client: Client, text: str) -> bool:
    return any(final["inputTranscription"] == text for final in client.finals)


def _scenario(closing: Closing, moment: Moment) -> dict[str, Any]:
    close = {"code": closing.code, "reason": closing.reason}
    aborts = closing.code == 1006
    if moment == "connecting":
        if aborts:
            return short_answers(connection={"abort_at": {"client_message": 1}}, setup={"never": True})
        return short_answers(setup={"close": close})
    if moment == "resuming":
        close, aborts = {"code": 1011, "reason": "Internal error occurred."}, False
    in_mid_turn = {"server_message": 4}
    lost = {"abort_at": in_mid_turn} if aborts else {"close_at": in_mid_turn | close}
    return short_answers(connections=[1], connection=lost)


async def _refuse_handles(gemini: EmulatorThread, closing: Closing) -> None:
    """From now on every dial with a handle is closed; one without is not."""
    if closing.code == 1006:
        # The next three, which is as often as a handle is tried.
        scenario = short_answers(connections=[1, 2, 3], connection={"abort_at": {"client_message": 1}})
    else:
        close = {"code": closing.code, "reason": closing.reason}
        scenario = short_answers(setup={"on": "resumed", "close": close})
    request = HTTPRequest(
        f"{gemini.url}/__emu/scenario", method="PUT", body=json.dumps(scenario), ca_certs=gemini.ca_file
    )
    await AsyncHTTPClient().fetch(request)


def _settings(gemini: EmulatorThread) -> Settings:
    return Settings.model_validate(
        {
            "server": {"host": "127.0.0.1", "port": 0, "websocket_port": None},
            "store": {"path": ":memory:"},
            "gemini": {"api_key": "dummy", "base_url": gemini.url, "ca_file": gemini.ca_file},
            "emulator": {"mode": "never"},
        }
    )
