"""How an emulator is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

EarsChoice = Literal["auto", "real", "scripted", "none"]
VoiceChoice = Literal["auto", "espeak", "tone"]

EARS: Final[tuple[str, ...]] = get_args(EarsChoice)
VOICES: Final[tuple[str, ...]] = get_args(VoiceChoice)


@dataclass(frozen=True)
class EmulatorOptions:
    """
    Attributes:
        host, port: where to listen; port 0 takes a free one.
        ears: `real` recognises speech (needs the `offline` extra), `scripted` reads numbered speech and
            scenario scripts and costs next to nothing, `none` hears nothing; `auto` is `real` where the
            extra is installed, else `none`.
        voice: `espeak` speaks (needs the `offline` extra), `tone` beeps once a word; `auto` as for the ears.
        scenario: the faults and scripts of every connection, as `scenarios.Scenario` describes them.
        scenarios: more of them by name, for connections to `/scn/NAME`.
        journal_path: a file to which every frame is written as one JSON line.
        time_scale: lifetimes, deadlines and handles run this many times faster than the clock; audio does
            not.
    """

    host: str = "127.0.0.1"
    port: int = 0
    ears: EarsChoice = "auto"
    voice: VoiceChoice = "auto"
    scenario: Mapping[str, Any] | None = None
    scenarios: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    journal_path: str | None = None
    time_scale: float = 1.0
