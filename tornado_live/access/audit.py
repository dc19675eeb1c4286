"""Who did what: one JSON object for each start, end, refusal and passed limit. Never what was said."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Mapping
from typing import Any

import structlog

from tornado_live.access.identity import Caller
from tornado_live.errors import LiveError, RateLimited

_MAX_FIELD_CHARS = 256


class Audit:
    """Writes the audit log.

    Args:
        file: where to append to, opened again when it was rotated away; None: the ordinary log, under
            the name `tornado_live.audit`.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, file: str | None = None) -> None:
        self._handler: logging.Handler | None = None
        if file is None:
            self._log: Any = structlog.get_logger("tornado_live.audit")
        else:
            self._handler = logging.handlers.WatchedFileHandler(file, encoding="utf-8")
            # A logger of its own, outside of `logging`'s tree: no setting of the ordinary log silences it.
            writer = logging.Logger("tornado_live.audit", logging.INFO)
            writer.addHandler(self._handler)
            self._log = structlog.wrap_logger(
                writer,
                processors=[
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.JSONRenderer(),
                ],
                wrapper_class=structlog.BoundLogger,
                context_class=dict,
                cache_logger_on_first_use=True,
            )

    def session_started(self, caller: Caller, address: str, session_id: str, *, model: str) -> None:
        self._write("session_started", caller, address, {"session_id": session_id, "model": model})

    def session_ended(
        self,
        caller: Caller,
        session_id: str,
        *,
        reason: str,
        duration_ms: int,
        audio_ms: int,
        tokens: int,
    ) -> None:
        """
        Args:
            audio_ms: audio received.
            tokens: billed by the model, all together.
        """
        use = {"reason": reason, "duration_ms": duration_ms, "audio_ms": audio_ms, "tokens": tokens}
        self._write("session_ended", caller, None, {"session_id": session_id, **use})

    def refused(self, error: LiveError, caller: Caller | None, address: str, *, action: str) -> None:
        """A caller, or a stranger (None), was refused: `limit_passed` for RateLimited, else `refused`.

        Args:
            action: what was tried: a route's name or a message's type, never a URL.
        """
        details: dict[str, Any] = {"code": error.code, "action": action}
        if isinstance(error, RateLimited):
            # Its sentence names the limit and quotes nothing that a client sent.
            details["limit"] = error.message
        event = "limit_passed" if isinstance(error, RateLimited) else "refused"
        self._write(event, caller, address, details)

    def close(self) -> None:
        if self._handler is not None:
            self._handler.close()

    def _write(
        self, event: str, caller: Caller | None, address: str | None, details: Mapping[str, Any]
    ) -> None:
        who = (
            {"owner": None, "kind": "stranger"}
            if caller is None
            else {"owner": caller.owner, "kind": caller.kind}
        )
        fields = {**who, "address": address, **details}
        self._log.info(
            event, **{name: _bounded(value) for name, value in fields.items() if value is not None}
        )


def _bounded(value: Any) -> Any:
    return value[:_MAX_FIELD_CHARS] if isinstance(value, str) else value
