"""What the emulator answers: rules, not a language model, and it says so when asked or greeted."""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Sequence

ABOUT = (
    "I am the offline demo engine of tornado-live, not Gemini: I recognise speech and answer by a few rules. "
    "I repeat what you say, tell the time and do small sums."
)
_ECHO_WORDS = 30

# fmt: off
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "plus": operator.add,
    "and": operator.add,
    "-": operator.sub,
    "minus": operator.sub,
    "*": operator.mul,
    "x": operator.mul,
    "times": operator.mul,
    "multiplied by": operator.mul,
    "/": operator.truediv,
    "over": operator.truediv,
    "divided by": operator.truediv,
}
_NUMBER = r"(?:\d+(?:\.\d+)?|[a-z]+(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?)"
_SUM = re.compile(
    rf"(?:what is|what's|whats|how much is|calculate|compute)\s+({_NUMBER})\s*"
    rf"({'|'.join(map(re.escape, sorted(_OPERATORS, key=len, reverse=True)))})\s*({_NUMBER})\b"
)


def reply_to(text: str, user_turns: Sequence[str], now: datetime.datetime) -> str:
    """The answer to the user's newest words.

    Args:
        user_turns: what the user said before, oldest first.
        now: the user's time.
    """
    plain = re.sub(r"\s+", " ", text).strip().lower().rstrip(".?! ")
    for rule in (_time, _sum, _memory):
        answer = rule(plain, user_turns, now)
        if answer is not None:
            return answer
    if re.fullmatch(r"(?:hello|hi|hey|good (?:morning|afternoon|evening))(?:,? (?:there|gemini))?", plain):
        return f"Hello. {ABOUT}"
    if re.search(r"\b(?:who|what) are you\b|\bwhat can you do\b|^help(?: me)?$", plain):
        return ABOUT
    return f"You said: {_shortened(text)}"


def _shortened(text: str) -> str:
    words = text.split()
    if len(words) <= _ECHO_WORDS:
        return " ".join(words)
    return f"{' '.join(words[:_ECHO_WORDS])} … and so on, {len(words)} words in all."


def _time(plain: str, _turns: Sequence[str], now: datetime.datetime) -> str | None:
    if re.search(r"\bwhat(?:'s| is)?(?: the)? time\b|\btell me the time\b", plain):
        return f"It is {now:%H:%M}."
    if re.search(r"\bwhat(?:'s| is)? (?:the |today's )?date\b|\bwhat day is (?:it|today)\b", plain):
        return f"It is {now:%A}, {now.day} {now:%B %Y}."
    return None


def _sum(plain: str, _turns: Sequence[str], _now: datetime.datetime) -> str | None:
    match = _SUM.search(plain)
    if match is None:
        return None
    left, right = _number(match[1]), _number(match[3])
    if left is None or right is None:
        return None
    try:
        result = _OPERATORS[match[2]](left, right)
    except ZeroDivisionError:
        return "Nothing can be divided by zero."
    return f"{match[1]} {match[2]} {match[3]} is {round(result, 4):g}."


def _number(word: str) -> float | None:
    if re.fullmatch(r"\d+(?:\.\d+)?", word):
        return float(word)
    values = {name: float(value) for value, name in enumerate(_UNITS)}
    values |= {name: float(20 + 10 * index) for index, name in enumerate(_TENS)}
    values["a hundred"] = 100.0
    parts = [values.get(part) for part in re.split(r"[- ]", word)]
    return None if None in parts else sum(part for part in parts if part is not None)


def _memory(plain: str, turns: Sequence[str], _now: datetime.datetime) -> str | None:
    if re.search(r"\bwhat did i (?:just )?say\b", plain):
        return f"You said before: {_shortened(turns[-1])}" if turns else "You have not said anything before."
    if re.search(r"\bhow many turns\b|\bwhich turn\b", plain):
        return f"This is turn {len(turns) + 1} of our conversation."
    return None
