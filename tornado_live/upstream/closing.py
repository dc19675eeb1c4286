"""Why a connection ended, and what the link should do about it.

Gemini uses a few WebSocket close codes for everything; only code and reason together tell a bad set-up
from a dead handle or a tired server. The reasons are those that users of the API have reported; a close
frame holds 123 bytes of them (RFC 6455, section 5.5), so long ones arrive cut.
"""

from __future__ import annotations

import enum
import re

from tornado_live.errors import UpstreamError, UpstreamQuota, UpstreamRefused, UpstreamUnavailable


class ClosingKind(enum.Enum):
    """What to do next."""

    RETRY_WITH_HANDLE = "retry_with_handle"
    """A passing fault or an age limit: dial again and resume."""

    RETRY_FRESH = "retry_fresh"
    """The handle or the state behind it is of no use: dial once without it."""

    QUOTA = "quota"
    """Dialling again at once makes it worse."""

    FATAL = "fatal"
    """Set-up, model name or key are refused: the same again gets the same answer."""


class ConnectionClosed(UpstreamError):
    """The WebSocket to Gemini was closed, by either side, in any way.

    The sentence is for clients and holds nothing of what Gemini said; `ws_code` and `ws_reason` are for
    the log.

    Args:
        ws_code: the close code; 1006 where the connection was lost without one (RFC 6455, section 7.4).
        ws_reason: Gemini's words, free of keys.
    """

    def __init__(self, ws_code: int, ws_reason: str = "", *, retry_after_s: float | None = None) -> None:
        kind = classify(ws_code, ws_reason)
        super().__init__(_TOLD[kind].default_message, retry_after_s=retry_after_s)
        self.ws_code = ws_code
        self.ws_reason = ws_reason
        self.kind = kind


_TOLD: dict[ClosingKind, type[UpstreamError]] = {
    ClosingKind.RETRY_WITH_HANDLE: UpstreamUnavailable,
    ClosingKind.RETRY_FRESH: UpstreamRefused,
    ClosingKind.QUOTA: UpstreamQuota,
    ClosingKind.FATAL: UpstreamRefused,
}

_QUOTA = re.compile(r"quota|resource.?exhausted|rate limit|too many requests", re.IGNORECASE)

# Searched in order, by code; the first match decides.
_REASONS: dict[int, tuple[tuple[re.Pattern[str], ClosingKind], ...]] = {
    1007: (
        (
            re.compile(r"is not supported|Unknown name|Invalid value|API key", re.IGNORECASE),
            ClosingKind.FATAL,
        ),
        (re.compile(r"voice|modalit", re.IGNORECASE), ClosingKind.FATAL),
    ),
    1008: (
        (re.compile(r"session not found|entity was not found", re.IGNORECASE), ClosingKind.RETRY_FRESH),
        (re.compile(r"operation was aborted|not implemented", re.IGNORECASE), ClosingKind.RETRY_WITH_HANDLE),
        (re.compile(r"is not found|API key|permission|denied", re.IGNORECASE), ClosingKind.FATAL),
    ),
}

_CODES: dict[int, ClosingKind] = {
    1002: ClosingKind.RETRY_FRESH,
    1003: ClosingKind.RETRY_FRESH,
    1007: ClosingKind.RETRY_FRESH,
    1008: ClosingKind.RETRY_FRESH,
    1009: ClosingKind.RETRY_FRESH,
}


def classify(ws_code: int, ws_reason: str) -> ClosingKind:
    """What a close code with this reason asks for.

    1007 and 1008 without a known reason may mean a refused handle, or a context that is full: worth one
    fresh dial, no more. Every code not listed is a passing fault.
    """
    if _QUOTA.search(ws_reason):
        return ClosingKind.QUOTA
    for pattern, kind in _REASONS.get(ws_code, ()):
        if pattern.search(ws_reason):
            return kind
    return _CODES.get(ws_code, ClosingKind.RETRY_WITH_HANDLE)


def refused_upgrade(status: int, body: str) -> UpstreamError:
    """The error for an HTTP answer other than 101; bad key and used-up quota may differ in the body only."""
    if status == 429 or _QUOTA.search(body):
        return UpstreamQuota()
    if status in (408, 425) or status >= 500:
        return UpstreamUnavailable()
    return UpstreamRefused()


def kind_of(error: UpstreamError) -> ClosingKind:
    """The kind of any error that a connection or a dial ended with."""
    if isinstance(error, ConnectionClosed):
        return error.kind
    if isinstance(error, UpstreamQuota):
        return ClosingKind.QUOTA
    if isinstance(error, UpstreamRefused):
        return ClosingKind.FATAL
    return ClosingKind.RETRY_WITH_HANDLE


def told(error: UpstreamError) -> UpstreamError:
    """The error as a client is told it: a class of `errors.py`, with its stable code."""
    if isinstance(error, ConnectionClosed):
        return _TOLD[error.kind](retry_after_s=error.retry_after_s)
    return error
