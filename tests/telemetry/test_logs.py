"""What reaches the log, and what never does."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, HTTPError, RequestHandler

from tornado_live.settings import LoggingSettings
from tornado_live.telemetry.logs import MASK, configure, log_request

SECRET = "AIzaSy-canary/5up3r+secret"
LINE_BREAKERS = ["\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2J\x1b[H", "\x00"]

Format = Literal["console", "json"]
LOG = logging.getLogger("tornado_live.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def undone_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def start(format: Literal["auto", "console", "json"] = "json", **options: Any) -> io.StringIO:
    stream: io.StringIO = options.pop("stream", io.StringIO())
    level = options.pop("level", "info")
    configure(LoggingSettings(format=format, level=level), stream=stream, **options)
    return stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_both_ways_of_logging_give_the_same_fields() -> None:
    stream = start()
    LOG.warning("store_failing", extra={"path": "a.sqlite3", "tries": 3})
    structlog.get_logger("tornado_live.test").warning("store_failing", path="a.sqlite3", tries=3)
    one, other = events(stream)
    assert one.pop("timestamp") <= other.pop("timestamp")
    assert one == other
    assert one == {
        "level": "warning",
        "logger": "tornado_live.test",
        "event": "store_failing",
        "path": "a.sqlite3",
        "tries": 3,
    }


def test_the_terminal_gets_console_lines_and_everything_else_json() -> None:
    to_terminal = start("auto", stream=Terminal())
    LOG.info("started")
    assert "\x1b[" in to_terminal.getvalue()
    assert not to_terminal.getvalue().startswith("{")
    to_file = start("auto")
    LOG.info("started")
    assert events(to_file)[0]["event"] == "started"
    assert to_terminal.getvalue().count("\n") == 1, "configuring again must replace"


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("breaker", LINE_BREAKERS, ids=ascii)
def test_an_event_is_one_line_whatever_its_text_holds(format: Format, breaker: str) -> None:
    stream = start(format)
    text = f"before{breaker}2026-01-01 [info] forged %s %d {{}}"
    LOG.warning(text, extra={"field": text, "nested": {"deep": [text], text: 1}, breaker or "x": text})
    LOG.warning("said %s", text)
    structlog.get_logger().warning(text, field=text)
    written = stream.getvalue()
    assert len(written.splitlines()) == 3
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", written)


@pytest.mark.parametrize("format", ["console", "json"])
def test_half_a_surrogate_pair_can_be_written(format: Format) -> None:
    stream = io.TextIOWrapper(buffer := io.BytesIO(), encoding="utf-8")
    configure(LoggingSettings(format=format), stream=stream)
    LOG.warning("half of \ud83d")
    stream.flush()
    assert rb"half of \ud83d" in buffer.getvalue()


def test_a_traceback_cannot_forge_an_event_on_the_console() -> None:
    stream = start("console")
    try:
        raise ValueError("first\n12:00:00 [info     ] forged\x1b[2J")
    except ValueError:
        LOG.exception("failed")
    first, *traceback = stream.getvalue().splitlines()
    assert "failed" in first
    assert "ValueError: first" in "\n".join(traceback)
    assert all(line.startswith("    ") for line in traceback)
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_is_one_field_in_json() -> None:
    stream = start()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        LOG.exception("failed")
    [event] = events(stream)
    assert event["exception"].endswith("ValueError: first\nsecond")


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_known_secret_is_masked_wherever_it_stands(format: Format) -> None:
    stream = start(format, secrets=[SECRET, "short", ""])
    LOG.info("key is %s", SECRET)
    LOG.info("url", extra={"url": "https://host/?key=AIzaSy-canary%2F5up3r%2Bsecret"})
    LOG.info(
        "field", extra={"note": f"<{SECRET}>", SECRET: 1, "list": [SECRET], "object": ValueError(SECRET)}
    )
    LOG.info("cut", extra={"note": "x" * 250 + SECRET})
    structlog.get_logger().info("native", note=SECRET)
    logging.getLogger("some.library").warning("dialling %s", SECRET)
    try:
        raise RuntimeError(SECRET)
    except RuntimeError:
        LOG.exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"do not use {SECRET}", stacklevel=1)
    written = stream.getvalue()
    assert "canary" not in written
    assert "5up3r" not in written
    assert written.count(MASK) >= 8
    assert "x" * 250 in written


SECRET_KEYS = """api_key apiKey X-API-Key authorization token resume_token resumeToken client_secret password
    Cookie set-cookie ticket private_key handle tokens""".split()


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_field_whose_name_says_secret_is_masked(key: str) -> None:
    stream = start()
    LOG.info(
        "event", extra={key: "canary-value", "headers": {key: "canary-value"}, "more": [{key: b"canary"}]}
    )
    assert "canary" not in stream.getvalue()


def test_names_and_amounts_are_no_secrets() -> None:
    stream = start()
    fields = {
        "key_name": "web",
        "total_tokens": 17,
        "handler": "LiveHandler",
        "status": 200,
        "ready": True,
        "ms": 0.5,
    }
    LOG.info("event", extra=fields)
    assert fields.items() <= events(stream)[0].items()


def test_long_fields_are_cut_and_bytes_are_only_counted() -> None:
    stream = start()
    LOG.info("e" * 1000, extra={"long": "x" * 10_000, "audio": b"\x00" * 6400, "many": list(range(1000))})
    [event] = events(stream)
    assert event["long"] == "x" * 256 + "… (10000 characters)"
    assert event["audio"] == "<6400 bytes>"
    assert len(event["event"]) < 300
    assert len(event["many"]) == 32


def test_every_line_is_strict_json_even_with_numbers_that_json_has_not() -> None:
    stream = start()
    LOG.info("event", extra={"nan": float("nan"), "inf": float("inf")})
    json.loads(stream.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_level_is_kept_and_libraries_that_log_content_stay_quiet() -> None:
    stream = start(level="debug")
    LOG.debug("mine")
    for name in ("websockets.client", "aiosqlite", "google_genai.live", "httpx"):
        logging.getLogger(name).info("frame with audio")
    logging.getLogger("websockets.client").warning("a warning")
    assert [event["event"] for event in events(stream)] == ["mine", "a warning"]
    stream = start(level="warning")
    LOG.info("too little")
    structlog.get_logger().info("too little")
    assert stream.getvalue() == ""


def test_context_variables_are_part_of_every_event() -> None:
    stream = start()
    with structlog.contextvars.bound_contextvars(session="s1"):
        LOG.info("one")
        structlog.get_logger().info("two")
    LOG.info("three")
    assert [event.get("session") for event in events(stream)] == ["s1", "s1", None]


class Answer(RequestHandler):
    def get(self, status: str) -> None:
        if status == "crash":
            raise RuntimeError("broken")
        if status == "missing":
            raise HTTPError(404, "nothing here")
        self.set_status(int(status))


class Healthy(RequestHandler):
    def get(self) -> None:
        self.finish("ok")


@pytest.mark.gen_test
async def test_requests_are_logged_at_their_level_and_never_with_their_query() -> None:
    stream = start(level="debug")
    app = Application([(r"/answer/(\w+)", Answer), (r"/readyz", Healthy)], log_function=log_request)
    server = HTTPServer(app)
    socket, port = bind_unused_port()
    server.add_socket(socket)
    client = AsyncHTTPClient(force_instance=True)
    for path in ("answer/200", "answer/404", "answer/500", "answer/missing", "answer/crash", "readyz"):
        url = f"http://127.0.0.1:{port}/{path}?ticket=canary&x=%0Aforged"
        await client.fetch(url, raise_error=False)
    client.close()
    server.stop()
    await server.close_all_connections()
    requests = [event for event in events(stream) if event["event"] == "request"]
    assert [(event["path"], event["status"], event["level"]) for event in requests] == [
        ("/answer/200", 200, "info"),
        ("/answer/404", 404, "warning"),
        ("/answer/500", 500, "error"),
        ("/answer/missing", 404, "warning"),
        ("/answer/crash", 500, "error"),
        ("/readyz", 200, "debug"),
    ]
    assert requests[0].keys() >= {"method", "ms", "address", "timestamp"}
    assert "RuntimeError: broken" in stream.getvalue(), "Tornado's own report must be there"
    assert "canary" not in stream.getvalue()


def test_by_default_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSettings())
    LOG.info("started")
    written = capsys.readouterr()
    assert json.loads(written.err)["event"] == "started"
    assert written.out == ""
