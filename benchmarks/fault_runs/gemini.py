"""Scenarios of the emulator that the fault runs share."""

from __future__ import annotations

from typing import Any

from tornado_live.emulator import EmulatorOptions, EmulatorThread

BRISK: dict[str, Any] = {"pace": {"speed": 50, "fast_turn_complete": True}}
"""Answers at once: for runs that are about something else."""


def emulator(scenario: dict[str, Any] = BRISK, **options: Any) -> EmulatorThread:
    """Scripted ears, which read numbered words, and a voice that costs nothing; on a thread of its own."""
    return EmulatorThread(EmulatorOptions(ears="scripted", voice="tone", scenario=scenario, **options))


def short_answers(**sections: Any) -> dict[str, Any]:
    """Every utterance is answered with one word, so that many fit into a minute."""
    return BRISK | {"script": {"replies": [{"text": "Yes."}]}} | sections
