"""A conversation's transcript as text, SubRip, WebVTT and Markdown. Times are the session's clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tornado_live.store.base import TurnRecord

_NAMES: Final = {"user": "User", "model": "Model"}


def as_text(turns: Sequence[TurnRecord]) -> str:
    """One line a turn: who, and what they said."""
    return "".join(f"{_NAMES[turn.role]}: {_line(turn)}\n" for turn in turns)


def as_markdown(turns: Sequence[TurnRecord]) -> str:
    """One paragraph a turn, with the time it began."""
    return "".join(
        f"**{_NAMES[turn.role]}** ({_clock(turn.start_ms)[:8]}): {_escaped(_line(turn))}\n\n"
        for turn in turns
    )


def as_srt(turns: Sequence[TurnRecord]) -> str:
    """SubRip: numbered cues, comma before the milliseconds."""
    return "".join(
        f"{number}\n{_span(turn).replace('.', ',')}\n{_NAMES[turn.role]}: {_line(turn)}\n\n"
        for number, turn in enumerate(turns, 1)
    )


def as_vtt(turns: Sequence[TurnRecord]) -> str:
    """WebVTT (W3C): cues with a voice tag; `&`, `<` and `>` escaped as section 4.2.2 asks for."""
    cues = (
        f"{turn.turn_id}-{turn.role}\n{_span(turn)}\n<v {_NAMES[turn.role]}>{_vtt_escaped(_line(turn))}\n\n"
        for turn in turns
    )
    return "WEBVTT\n\n" + "".join(cues)


FORMATS: Final[Mapping[str, tuple[str, Callable[[Sequence[TurnRecord]], str]]]] = MappingProxyType(
    {
        "text": ("text/plain; charset=utf-8", as_text),
        "markdown": ("text/markdown; charset=utf-8", as_markdown),
        "srt": ("application/x-subrip; charset=utf-8", as_srt),
        "vtt": ("text/vtt; charset=utf-8", as_vtt),
    }
)
"""Name → MIME type and writer."""


def _line(turn: TurnRecord) -> str:
    text = " ".join(turn.text.split())
    return f"{text} [interrupted]" if turn.interrupted else text


def _span(turn: TurnRecord) -> str:
    return f"{_clock(turn.start_ms)} --> {_clock(max(turn.end_ms, turn.start_ms + 1))}"


def _clock(ms: int) -> str:
    seconds, ms = divmod(max(0, ms), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{ms:03d}"


def _vtt_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escaped(text: str) -> str:
    return "".join("\\" + each if each in "\\`*_[]<>#" else each for each in text)
