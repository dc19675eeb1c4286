"""One connection of the emulator, from `setup` to its end, without any socket.

Frames come in by `receive`, messages go out through an `Outlet`; what is said is up to the `Dialogue`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tornado_live.emulator import protocol
from tornado_live.emulator.dialogue import Dialogue
from tornado_live.emulator.outlet import Outlet, Sabotage
from tornado_live.emulator.profiles import ModelProfile, find_profile
from tornado_live.emulator.protocol import INVALID_ARGUMENT, ClientPart, ProtocolError
from tornado_live.emulator.resumption import HandleUnknown, Session
from tornado_live.emulator.scenarios import Close, Scenario
from tornado_live.emulator.schema import ClientContent, RealtimeInput, Setup, ToolResponse
from tornado_live.emulator.world import World

logger = logging.getLogger(__name__)

_SETUP_WITHIN_S = 10.0
_SESSION_S = 900.0
_VIDEO_SESSION_S = 120.0
_OLD_CONNECTION_WITHIN_S = 0.5


class Conversation:
    """
    Args:
        number: of the connection, from 1.
        api_version: of the address that was dialled.
    """

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        number: int,
        api_version: str,
        outlet: Outlet,
        sabotage: Sabotage,
    ) -> None:
        self.number = number
        self._world = world
        self._scenario = scenario
        self._api_version = api_version
        self._outlet = outlet
        self._sabotage = sabotage
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._setup: Setup | None = None
        self._session: Session | None = None
        self._dialogue: Dialogue | None = None

    def start(self) -> None:
        """The connection is open: `setup` must come soon."""
        self._spawn(self._outlet.run())
        self._spawn(self._await_setup())

    async def receive(self, frame: str | bytes) -> None:
        """Takes one frame; the next may be given when this returns, which is late where the client is held
        back."""
        self._sabotage.client_message()
        if self._closing:
            return
        try:
            part = protocol.parse(frame)
            self._journal_frame(len(frame), part)
            await self._take(part)
        except ProtocolError as error:
            await self._close(error.code, error.reason)

    async def end(self) -> None:
        """The connection is gone."""
        self._closing = True
        self._sabotage.stop()
        if self._session is not None:
            self._world.sessions.release(self._session)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._dialogue is not None:
            await self._dialogue.close()

    def describe(self) -> dict[str, Any]:
        """What the control API shows of this connection."""
        return {
            "connection": self.number,
            "model": self._setup.model if self._setup else None,
            "idle": self._dialogue.idle if self._dialogue else None,
            "turns": len(self._session.user_turns) if self._session else 0,
            "contextTokens": self._session.meter.context_tokens if self._session else 0,
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("connection %d failed", self.number, exc_info=task.exception())
            self._spawn(self._close(1011, "Internal error occurred."))

    async def _close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            await self._outlet.close(code, reason)

    def _note(self, what: str, **more: Any) -> None:
        self._world.journal.note(self.number, what, **more)

    def _journal_frame(self, size: int, part: ClientPart) -> None:
        more: dict[str, Any] = {}
        what = type(part).__name__
        what = what[0].lower() + what[1:]
        if isinstance(part, RealtimeInput):
            what += "." + "+".join(sorted(part.model_fields_set))
            if part.audio is not None and self._dialogue is not None:
                more = {"offset": self._dialogue.offset, "audio_bytes": len(part.audio.data)}
        self._world.journal.frame(self.number, "in", size, what, **more)

    async def _await_setup(self) -> None:
        await asyncio.sleep(_SETUP_WITHIN_S / self._world.time_scale)
        if self._setup is None:
            await self._close(1007, INVALID_ARGUMENT)

    async def _take(self, part: ClientPart) -> None:
        dialogue = self._dialogue
        if isinstance(part, Setup) != (self._setup is None):
            raise ProtocolError(1007, INVALID_ARGUMENT)
        if isinstance(part, Setup):
            await self._set_up(part)
        elif dialogue is None:
            # The scenario leaves the set-up unanswered, and so whatever comes after it.
            return
        elif isinstance(part, RealtimeInput):
            await dialogue.realtime_input(part)
        elif isinstance(part, ClientContent):
            dialogue.client_content(part)
        elif isinstance(part, ToolResponse):
            dialogue.tool_response(part)
        else:
            dialogue.context_update(part)
        self._limit_context()

    # Set-up.

    async def _set_up(self, setup: Setup) -> None:
        self._setup = setup
        profile = find_profile(
            setup.model, self._api_version, retired_models=self._scenario.model.retired_models
        )
        profile.check(setup)
        handle = setup.session_resumption.handle if setup.session_resumption else None
        if await self._refuse(resumed=bool(handle)):
            return
        session = await self._resume(handle, setup.model) if handle else self._new_session(setup.model)
        self._session = session
        self._note("set_up", model=setup.model, resumed=bool(handle), history=len(session.history))
        self._dialogue = Dialogue(
            self._world,
            self._scenario,
            profile,
            setup,
            session,
            self._outlet,
            self._note,
            self._generating,
        )
        self._outlet.send(protocol.setup_complete())
        self._sabotage.set_up()
        self._spawn(self._dialogue.run())
        self._spawn(self._live_and_expire(profile))
        self._spawn(self._limit_session(setup))
        if setup.session_resumption is not None and not self._scenario.resumption.never:
            self._spawn(self._offer_handles())

    async def _refuse(self, resumed: bool) -> bool:
        """Does what the scenario has against this set-up; True: there is no `setupComplete`."""
        knobs = self._scenario.setup
        if knobs.on != "any" and resumed != (knobs.on == "resumed"):
            return False
        await asyncio.sleep(knobs.delay_ms / 1000)
        if knobs.wrong_first:
            self._outlet.send(protocol.go_away(30.0))
        if knobs.close is not None:
            raise ProtocolError(knobs.close.code, knobs.close.reason)
        return knobs.never

    def _new_session(self, model: str) -> Session:
        return self._world.sessions.new_session(model, self.number)

    async def _resume(self, handle: str, model: str) -> Session:
        knobs = self._scenario.resumption
        if knobs.reject is not None:
            raise ProtocolError(knobs.reject.code, knobs.reject.reason)
        sessions = self._world.sessions
        if knobs.while_open == "refuse" and not await self._let_go(handle):
            raise ProtocolError(1011, "The service is currently unavailable.")
        try:
            return sessions.resume(handle, model, self.number)
        except HandleUnknown as error:
            raise ProtocolError(knobs.unknown_handle.code, knobs.unknown_handle.reason) from error

    async def _let_go(self, handle: str) -> bool:
        """Whether the handle's old connection has ended; its close may still be under way."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _OLD_CONNECTION_WITHIN_S
        while self._world.sessions.holder(handle) is not None:
            if loop.time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    # Handles and limits.

    def _generating(self, generating: bool) -> None:
        if self._setup is None or self._setup.session_resumption is None or self._scenario.resumption.never:
            return
        if generating:
            self._outlet.send(protocol.resumption_update(None))
        else:
            self._offer_handle()

    def _offer_handle(self) -> None:
        assert self._session is not None
        handle = self._world.sessions.save(self._session)
        self._note("handle", history=len(self._session.history))
        self._outlet.send(protocol.resumption_update(handle))

    async def _offer_handles(self) -> None:
        interval_s = self._scenario.resumption.interval_s
        assert self._dialogue is not None
        while True:
            if self._dialogue.idle:
                self._offer_handle()
            if not interval_s:
                return
            await asyncio.sleep(interval_s)

    async def _live_and_expire(self, profile: ModelProfile) -> None:
        knobs = self._scenario.model
        scale = self._world.time_scale
        lifetime_s = (knobs.lifetime_s or profile.lifetime_s) / scale
        go_away_s = knobs.go_away_s if knobs.go_away_s is not None else profile.go_away_s
        if go_away_s:
            go_away_s = min(go_away_s / scale, lifetime_s)
            await asyncio.sleep(lifetime_s - go_away_s)
            self._outlet.send(protocol.go_away(go_away_s))
            lifetime_s = go_away_s
        if not knobs.go_away_then_ignore:
            await asyncio.sleep(lifetime_s)
            expiry = knobs.expiry or Close(code=profile.expiry_code, reason=profile.expiry_reason)
            await self._close(expiry.code, expiry.reason)

    async def _limit_session(self, setup: Setup) -> None:
        """A session that is not compressed ends after 15 minutes, with video after 2, over all its
        connections."""
        if setup.context_window_compression is not None or not self._scenario.model.session_limits:
            return
        assert self._session is not None
        scale = self._world.time_scale
        left_s = (_VIDEO_SESSION_S / scale) - self._session.age_s
        await asyncio.sleep(max(0.0, left_s))
        if not self._session.has_video:
            await asyncio.sleep((_SESSION_S - _VIDEO_SESSION_S) / scale + min(0.0, left_s))
        await self._close(1000, "")

    def _limit_context(self) -> None:
        if self._setup is None or self._session is None:
            return
        profile = find_profile(self._setup.model, self._api_version, retired_models=True)
        meter = self._session.meter
        compression = self._setup.context_window_compression
        if compression is None:
            if self._scenario.model.session_limits and meter.context_tokens > profile.context_tokens:
                raise ProtocolError(1007, INVALID_ARGUMENT)
            return
        trigger = compression.trigger_tokens or profile.context_tokens * 8 // 10
        if meter.context_tokens > trigger:
            target = compression.sliding_window.target_tokens if compression.sliding_window else None
            meter.slide(target or trigger // 2)
            self._note("context_compressed", tokens=meter.context_tokens)
