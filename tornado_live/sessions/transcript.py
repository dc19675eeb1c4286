"""The ledger of a conversation: exchanges, and the turns of both sides in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from tornado_live.store.base import TurnRecord
from tornado_live.upstream.base import HistoryTurn


@dataclass(slots=True, eq=False)
class Exchange:
    """What one side said and the other answered.

    It starts at the user's first speech or text after the last turnComplete or interruption and ends
    at the next. Times are ms on the session's clock.

    Attributes:
        input_text: what the user said or typed, so far.
        interim: the recogniser's guess at what comes next; replaced by every newer guess.
        written: the reply in the text modality, so far.
        spoken: transcription of the reply's audio, so far.
        spoken_ms: how much of the reply's voice has come.
        played_ms: how much of the voice the user has heard, where the client says so.
        audio: the reply's audio, `audio.REPLY` samples, where the session wants it in one piece.
        input_at_ms: when the newest words of the user came.
        input_over, reply_over: what comes next is another utterance, another part of the reply.
        typed: the user wrote in it.
        cancelled: the rest of the reply is not wanted.
    """

    id: str
    started_ms: int
    input_text: str = ""
    interim: str = ""
    written: str = ""
    spoken: str = ""
    spoken_ms: float = 0.0
    played_ms: int | None = None
    audio: list[bytes] = field(default_factory=list)
    input_at_ms: int | None = None
    input_over: bool = False
    reply_over: bool = False
    input_ended_ms: int | None = None
    reply_started_ms: int | None = None
    ended_ms: int | None = None
    typed: bool = False
    interrupted: bool = False
    cancelled: bool = False

    @property
    def reply_text(self) -> str:
        """What the model answered: written, or the transcription of what it said."""
        return self.written or self.spoken

    @property
    def heard_text(self) -> str:
        """About as much of `spoken` as the user has heard, in whole words: as much as of the voice."""
        if not self.played_ms or self.played_ms >= self.spoken_ms:
            return self.spoken if self.played_ms else ""
        chars = round(len(self.spoken) * self.played_ms / self.spoken_ms)
        return self.spoken[: self.spoken.rfind(" ", 0, chars + 1) + 1].rstrip()

    @property
    def silenced(self) -> bool:
        """Its voice is not to be heard any more."""
        return self.cancelled or self.interrupted

    @property
    def has_reply(self) -> bool:
        return self.reply_started_ms is not None


class Transcript:
    """All finished turns of a conversation, and the open exchange if there is one."""

    def __init__(self, turns: list[TurnRecord] | None = None) -> None:
        self.turns = turns or []
        self.open: Exchange | None = None
        self._last_number = max((int(turn.turn_id[1:]) for turn in self.turns), default=0)

    def exchange(self, start_ms: int) -> Exchange:
        """The open exchange; a new one if none is open."""
        if self.open is None:
            self._last_number += 1
            self.open = Exchange(f"t{self._last_number}", max(start_ms, self._earliest_ms))
        return self.open

    def began_by(self, start_ms: int) -> None:
        """The open exchange began so early, as is found out now; but not before the turn before it."""
        if self.open is not None:
            self.open.started_ms = max(min(self.open.started_ms, start_ms), self._earliest_ms)

    @property
    def _earliest_ms(self) -> int:
        return self.turns[-1].start_ms if self.turns else 0

    def close(self, key: str, now_ms: int, *, interrupted: bool) -> tuple[Exchange, list[TurnRecord]]:
        """Ends the open exchange and returns it with the turns it comes to, none for an empty side."""
        exchange = self.open
        assert exchange is not None
        self.open = None
        exchange.ended_ms = now_ms
        exchange.interrupted = interrupted
        exchange.interim = ""
        turns = []
        if exchange.input_text.strip():
            ended_ms = exchange.input_ended_ms if exchange.input_ended_ms is not None else now_ms
            ended_ms = max(exchange.started_ms, ended_ms)
            turns.append(
                TurnRecord(
                    key, exchange.id, "user", exchange.input_text.strip(), exchange.started_ms, ended_ms
                )
            )
        if exchange.reply_text.strip():
            started_ms = exchange.reply_started_ms if exchange.has_reply else exchange.started_ms
            turns.append(
                TurnRecord(
                    key,
                    exchange.id,
                    "model",
                    exchange.reply_text.strip(),
                    started_ms or 0,
                    now_ms,
                    interrupted,
                )
            )
        self.turns.extend(turns)
        return exchange, turns

    def history(self) -> list[HistoryTurn]:
        """What a fresh upstream connection is seeded with."""
        turns = [HistoryTurn(turn.role, turn.text) for turn in self.turns]
        if self.open is not None and self.open.input_text.strip():
            turns.append(HistoryTurn("user", self.open.input_text.strip()))
        return turns
