"""The state machine: what a client is promised, checked against real server processes by Hypothesis."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fault_runs.clients import Client, Refused, call, ledger
from fault_runs.gemini import emulator, short_answers
from fault_runs.processes import ServerProcess

OWNER, STRANGER = "owner", "stranger"
KEYS = {name: f"{name}-has-this-key" for name in (OWNER, STRANGER)}


class World:
    """One emulator and one server process for all runs: a server takes seconds to start."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.gemini = emulator(short_answers())
        self.gemini.start()
        self._folder = tempfile.TemporaryDirectory()
        self.server = ServerProcess(
            Path(self._folder.name),
            self.gemini.url,
            self.gemini.ca_file,
            sessions={"resume_grace": "5m", "max": 2000, "per_owner": 2000},
            auth={
                "mode": "keys",
                "keys": [{"name": name, "secret": key} for name, key in KEYS.items()],
            },
        )
        self.run(self.server.start())
        self.sessions = 0

    def run(self, work: Any, timeout_s: float = 40.0) -> Any:
        return self.runner.run(asyncio.wait_for(work, timeout_s))

    def close(self) -> None:
        self.server.kill()
        self.run(self.server.wait())
        self.gemini.stop()
        self.runner.close()
        self._folder.cleanup()


@dataclass
class Taken:
    """How much was tried."""

    steps: int = 0
    kills: int = 0


def check(examples: int, steps: int) -> tuple[Taken, str]:
    """Runs the state machine; what was tried, and the broken promise, if one was."""
    Survival.world, Survival.taken = World(), Taken()
    try:
        run_state_machine_as_test(
            Survival,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                # Steps take too long for looking for the shortest way to a failure.
                phases=[Phase.generate],
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:
        return Survival.taken, f"{type(error).__name__}: {error}"
    finally:
        Survival.world.close()
    return Survival.taken, ""


@dataclass
class Conversation:
    """What the model knows of one session.

    Attributes:
        finals: turns that the client was told to be final.
        attached: the client has a connection.
        over: the status of a session that is over.
        epochs: every epoch that an attach was given, in order.
    """

    client: Client
    started: str = ""
    finals: dict[str, str] = field(default_factory=dict)
    attached: bool = False
    over: str = ""
    epochs: list[int] = field(default_factory=list)
    old_tokens: list[str] = field(default_factory=list)
    sentences: int = 0
    seqs: int = 0


class Survival(RuleBasedStateMachine):
    """create, attach, feed, ack, cut, take over, end, kill and pause, in any order."""

    world: ClassVar[World]
    taken: ClassVar[Taken]

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Conversation] = []
        self.restarts = 0

    def teardown(self) -> None:
        for session in self.sessions:
            self.world.run(session.client.drop())

    def _client(self, label: str, name: str = OWNER) -> Client:
        return Client(self.world.server.port, label, api_key=KEYS[name])

    def _pick(self, number: int, *, attached: bool | None = None) -> Conversation | None:
        choice = [s for s in self.sessions if not s.over and (attached is None or s.attached == attached)]
        return choice[number % len(choice)] if choice else None

    @initialize()
    def first(self) -> None:
        self.create()

    @precondition(lambda self: len(self.sessions) < 4)
    @rule()
    def create(self) -> None:
        self.world.sessions += 1
        client = self._client(f"model_{self.world.sessions}")
        started = self.world.run(client.start())
        session = Conversation(client, started["data"]["startTime"], attached=True)
        session.epochs.append(client.epoch)
        self.sessions.append(session)

    @rule(number=st.integers(0, 7))
    def feed(self, number: int) -> None:
        """A sentence, answered; from now on it may not vanish."""
        session = self._pick(number, attached=True)
        if session is None:
            return
        session.sentences += 1
        self.world.run(self._say(session, f"sentence {session.sentences} of {session.client.label}"))

    async def _say(self, session: Conversation, sentence: str) -> None:
        client = session.client
        await client.text(sentence)
        deadline = time.monotonic() + 20.0
        while not any(final["inputTranscription"] == sentence for final in client.finals):
            assert time.monotonic() < deadline, "the sentence was not answered"
            assert not client.closed.is_set(), "the connection was lost"
            await asyncio.sleep(0.01)
        self._note_finals(session)

    def _note_finals(self, session: Conversation) -> None:
        for final in session.client.finals:
            if final["inputTranscription"]:
                session.finals[final["turnId"]] = final["inputTranscription"]

    @rule(number=st.integers(0, 7))
    def acknowledge(self, number: int) -> None:
        session = self._pick(number, attached=True)
        if session is not None:
            self.world.run(session.client.acknowledge())

    @rule(number=st.integers(0, 7))
    def cut(self, number: int) -> None:
        session = self._pick(number, attached=True)
        if session is not None:
            self.world.run(session.client.drop())
            session.attached = False

    @rule(number=st.integers(0, 7))
    def attach(self, number: int) -> None:
        """Comes back, or takes over from itself."""
        session = self._pick(number)
        if session is None:
            return
        client = session.client
        session.old_tokens.append(client.token)
        answer = self.world.run(client.come_back())
        session.attached = True
        session.epochs.append(client.epoch)
        assert answer["data"]["startTime"] == session.started, "another conversation under the same name"

    @rule(number=st.integers(0, 7))
    def attach_with_an_old_token(self, number: int) -> None:
        session = self._pick(number)
        if session is None or len(session.old_tokens) < 2:
            return
        late = self._client(session.client.label)
        late.token = session.old_tokens[0]
        self._refused(late, {"resume_refused"})

    @rule(number=st.integers(0, 7))
    def attach_as_somebody_else(self, number: int) -> None:
        session = self._pick(number)
        if session is not None:
            thief = self._client(session.client.label, STRANGER)
            thief.token = session.client.token
            self._refused(thief, {"resume_refused"})

    @rule(number=st.integers(0, 7))
    def end(self, number: int) -> None:
        session = self._pick(number, attached=True)
        if session is None:
            return
        self.world.run(session.client.send({"type": "end_session"}))
        self.world.run(session.client.message("session_ended"))
        self._note_finals(session)
        session.over, session.attached = "ended", False

    @rule(number=st.integers(0, 7))
    def attach_what_is_over(self, number: int) -> None:
        over = [session for session in self.sessions if session.over]
        if over:
            session = over[number % len(over)]
            late = self._client(session.client.label)
            late.token = session.client.token
            self._refused(late, {f"session_{session.over}"})

    def _refused(self, client: Client, codes: set[str]) -> None:
        seen = "let in"
        try:
            self.world.run(client.resume())
        except Refused as refused:
            seen = refused.code
        finally:
            self.world.run(client.drop())
        assert seen in codes

    @precondition(lambda self: self.restarts < 2)
    @rule(expiring=st.none() | st.integers(0, 7))
    def kill(self, expiring: int | None) -> None:
        """SIGKILL, and a new process; a session's time may be over by then."""
        self.restarts += 1
        self.taken.kills += 1
        server = self.world.server
        server.kill()
        self.world.run(server.wait())
        for session in self.sessions:
            session.attached = False
        expired = self._pick(expiring) if expiring is not None else None
        if expired is not None:
            with contextlib.closing(sqlite3.connect(server.store, isolation_level=None)) as store:
                store.execute(
                    "UPDATE sessions SET expires_at = started_at + 0.001 WHERE label = ?",
                    (expired.client.label,),
                )
            expired.over = "expired"
        self.world.run(server.start())

    @rule(seconds=st.sampled_from([0.1, 0.5]))
    def pause(self, seconds: float) -> None:
        async def stand_still() -> None:
            async with self.world.server.paused():
                await asyncio.sleep(seconds)

        self.world.run(stand_still())

    @invariant()
    def what_was_final_is_kept(self) -> None:
        for session in self.sessions:
            turns = self.world.run(ledger(self.world.server.port, session.client.label, api_key=KEYS[OWNER]))
            kept = {turn["turnId"]: turn["text"] for turn in turns if turn["role"] == "user"}
            assert session.finals.items() <= kept.items(), (session.finals, kept)

    @invariant()
    def numbers_rise(self) -> None:
        self.taken.steps += 1
        for session in self.sessions:
            assert not session.client.out_of_order, session.client.out_of_order

    @invariant()
    def epochs_rise_only_with_the_process(self) -> None:
        """One holder per epoch: as many epochs as processes, at the most."""
        for session in self.sessions:
            assert session.epochs == sorted(session.epochs)
            assert max(session.epochs) <= 1 + self.restarts

    @invariant()
    def what_is_over_stays_over(self) -> None:
        for session in self.sessions:
            expected = {session.over} if session.over else {"active", "detached", "connecting"}
            assert self._status(session, OWNER)["status"] in expected

    @invariant()
    def the_owner_never_changes(self) -> None:
        for session in self.sessions:
            assert self._status(session, STRANGER) == {"status": "not_found"}

    def _status(self, session: Conversation, name: str) -> dict[str, Any]:
        path = f"/session/{session.client.label}/status"
        _, body = self.world.run(call(self.world.server.port, path, api_key=KEYS[name]))
        data: dict[str, Any] = body["data"]
        return data
