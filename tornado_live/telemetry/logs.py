"""The log: structlog and the standard library's `logging` in one stream, one event a line.

Modules log through `logging.getLogger(__name__)` or `structlog.get_logger(__name__)`: an event in
snake_case or a sentence, and fields (`extra=` of the former). What was said is never logged.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from tornado_live.settings import LoggingSettings

MASK = "[secret]"
MAX_FIELD_CHARS = 256
MAX_TRACEBACK_CHARS = 16_384
MAX_DEPTH = 4
MAX_ITEMS = 32
MIN_SECRET_CHARS = 6

_TRACEBACKS = frozenset({"exception", "stack"})
_SECRET_KEY = re.compile(
    r"(api_?key|authorization|token|secret|passw(or)?d|cookie|ticket|credential|jwt|private_?key|handle)s?$"
)
# Control characters, line and paragraph separators, marks that turn the reading direction, half surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_QUERY = re.compile(r"\?[^\s'\")]*")
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})
# At `debug` these log whole messages: audio, transcripts, SQL with its values.
_CHATTY = ("aiosqlite", "asyncio", "google_genai", "httpcore", "httpx", "websockets")

_access_log = logging.getLogger("tornado.access")


def configure(settings: LoggingSettings, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Sets up the process's logging. Calling it again replaces what it set up before.

    Args:
        secrets: values that must never be written (`settings.secret_values`).
        stream: where to write; standard error if left out.
    """
    stream = stream or sys.stderr
    on_console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if on_console else "iso", utc=not on_console),
    ]
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, _tidied],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                Cleaner(secrets),
                *(
                    _console(stream)
                    if on_console
                    else [_in_reading_order, structlog.processors.JSONRenderer()]
                ),
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    _install(handler, logging.getLevelName(settings.level.upper()))


def log_request(handler: Any) -> None:
    """Tornado's `log_function`: one line for a finished request, without its query string."""
    request, status = handler.request, handler.get_status()
    if status >= 400:
        level = logging.ERROR if status >= 500 else logging.WARNING
    else:
        level = logging.DEBUG if request.path in _PROBES else logging.INFO
    fields = {
        "method": request.method,
        "path": request.path,
        "status": status,
        "ms": round(request.request_time() * 1000, 1),
        "address": request.remote_ip,
    }
    _access_log.log(level, "request", extra=fields)


class Cleaner:
    """A structlog processor that makes an event fit to be written.

    Secrets are masked, by the name of their key and by their value wherever it stands; text is cut at
    `MAX_FIELD_CHARS` (tracebacks at `MAX_TRACEBACK_CHARS`), bytes become their length.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
        known |= {quote(secret, safe="") for secret in known}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {self._text(key): self._field(key, value) for key, value in event.items()}

    def _field(self, key: str, value: Any, depth: int = 0) -> Any:
        if key in _TRACEBACKS:
            return self._text(value, MAX_TRACEBACK_CHARS)
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if _is_secret_key(key):
            return MASK
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if depth < MAX_DEPTH and isinstance(value, Mapping):
            items = list(value.items())[:MAX_ITEMS]
            return {self._text(name): self._field(str(name), item, depth + 1) for name, item in items}
        if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
            return [self._field("", item, depth + 1) for item in list(value)[:MAX_ITEMS]]
        return self._text(value)

    def _text(self, value: Any, longest: int = MAX_FIELD_CHARS) -> str:
        text = str(value)
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


class _Handler(logging.StreamHandler[TextIO]):
    """Told apart from handlers that others attach."""


def _install(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def _is_secret_key(key: str) -> bool:
    return _SECRET_KEY.search(key.lower().replace("-", "_")) is not None


def _tidied(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """For what came through `logging`."""
    event.pop("message", None)  # left on the record by another handler
    if str(event.get("logger")).startswith("tornado."):  # whose own messages name the whole URI
        event["event"] = _QUERY.sub("?…", str(event["event"]))
    return event


def _in_reading_order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in ("timestamp", "level", "logger", "event") if key in event}
    return {**first, **event}


def _console(stream: TextIO) -> list[Processor]:
    colours = stream.isatty()
    return [
        _on_one_line,
        structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        ),
    ]


def _on_one_line(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Escapes what would move the cursor; tracebacks stay on lines of their own, indented."""
    tracebacks = {key: _indented(value) for key, value in event.items() if key in _TRACEBACKS}
    return {_escaped(key): _escaped_all(value) for key, value in event.items()} | tracebacks


def _escaped_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {_escaped(key): _escaped_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped_all(item) for item in value]
    return _escaped(value) if isinstance(value, str) else value


def _indented(traceback: str) -> str:
    return "\n".join(f"    {_escaped(line)}" for line in traceback.splitlines())


def _escaped(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
