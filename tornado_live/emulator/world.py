"""What the connections of one emulator share."""

from __future__ import annotations

from dataclasses import dataclass

from tornado_live.emulator.ears import Ears
from tornado_live.emulator.journal import Journal
from tornado_live.emulator.resumption import SessionStore
from tornado_live.emulator.voice import Voice


@dataclass(frozen=True, slots=True)
class World:
    """
    Attributes:
        time_scale: lifetimes and deadlines run this many times faster.
    """

    ears: Ears
    voice: Voice
    sessions: SessionStore
    journal: Journal
    time_scale: float = 1.0
