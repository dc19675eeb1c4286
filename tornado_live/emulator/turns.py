"""A turn: what the user contributed, and the answer that is owed for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Turn:
    """
    Attributes:
        written: the user's words where they were written, not spoken.
        recognised: the recogniser's work on the parts of an utterance, in order.
        spoken: the user spoke, or made a sound: an input transcript is owed.
        answer: said as it is, instead of an answer to the user's words.
        interrupted: the user went on; what has not been sent is not said any more.
        speaking: sends the answer.
        sent: of the answer's words, what has been sent.
    """

    written: str = ""
    recognised: list[asyncio.Task[str]] = field(default_factory=list)
    spoken: bool = False
    answer: str | None = None
    interrupted: bool = False
    speaking: asyncio.Task[None] | None = None
    sent: str = ""

    async def user_text(self) -> str:
        """The user's words; waits for the recogniser."""
        parts = [await part for part in self.recognised]
        return " ".join(part for part in [self.written, *parts] if part)

    def recognised_so_far(self) -> str:
        """The words of the parts that are done, up to the first that is not."""
        words = []
        for part in self.recognised:
            if not part.done() or part.cancelled() or part.exception():
                break
            words.append(part.result())
        return " ".join(word for word in words if word)

    def interrupt(self) -> None:
        self.interrupted = True
        if self.speaking is not None:
            self.speaking.cancel()
