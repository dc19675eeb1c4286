"""The connector over real sockets, through Google's SDK, against the emulator."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from support import until

from tornado_live.emulator import numbered
from tornado_live.emulator.certificate import EphemeralCertificate
from tornado_live.errors import (
    SettingsError,
    UpstreamError,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tornado_live.settings.models import GeminiSettings
from tornado_live.upstream import hotpath
from tornado_live.upstream.base import (
    AudioDelta,
    HistoryTurn,
    InputTranscript,
    OutputTranscript,
    ResumptionHandle,
    TurnComplete,
    UpstreamConnection,
    UpstreamSetup,
    Usage,
    VoiceActivityDetection,
)
from tornado_live.upstream.closing import ClosingKind, ConnectionClosed
from tornado_live.upstream.gemini import (
    GeminiConnection,
    GeminiConnector,
    foreign_errors,
    live_config,
    map_error,
)
from tornado_live.upstream.models import PROFILES, adapt
from tornado_live.upstream.uplink import silence
from upstream.real import KEY, connector_to, emulator, events_until, joined, live, speak

SETUP = UpstreamSetup("gemini-3.8-live", modality="audio")


async def dial(connector: GeminiConnector, setup: UpstreamSetup = SETUP, **arguments: Any) -> None:
    async with connector.connect(setup, **arguments):
        pass


@asynccontextmanager
async def plain_connection(url: str, ca_file: str) -> AsyncIterator[UpstreamConnection]:
    """A connection without the hot path: the SDK's own calls alone."""
    context = ssl.create_default_context(cafile=ca_file)
    client = genai.Client(
        api_key=KEY,
        vertexai=False,
        http_options=types.HttpOptions(
            base_url=url, api_version="v1beta", async_client_args={"ssl": context, "proxy": None}
        ),
    )
    config = live_config(SETUP, handle=None, seeded=False)
    try:
        async with client.aio.live.connect(model="models/gemini-3.8-live", config=config) as session:
            yield GeminiConnection(session, None, map_error)
    finally:
        await client.aio.aclose()
        client.close()


# Two ways to the same end


@pytest.mark.gen_test(timeout=20)
async def test_the_sdk_lets_create_connection_through() -> None:
    """What the hot path stands on; the SDK does not document it."""
    async with live() as connector, connector.connect(SETUP) as connection:
        assert isinstance(connection._wire, hotpath.Wire)
        assert hotpath.handed_over.get() is None


@pytest.mark.gen_test(timeout=30)
async def test_the_hot_path_and_the_plain_one_hear_and_say_the_same() -> None:
    async with emulator() as one, connector_to(one) as connector:
        heard = []
        for connecting in (connector.connect(SETUP), plain_connection(one.url, one.ca_file)):
            async with connecting as connection:
                await speak(connection, numbered.speak(1, 3) + silence(1.0))
                heard.append(await events_until(connection, TurnComplete))
    hot, plain = heard
    assert numbered.numbers(joined(hot, InputTranscript)) == [1, 2, 3]
    assert joined(hot, OutputTranscript) == joined(plain, OutputTranscript)
    said = [b"".join(event.pcm for event in events if isinstance(event, AudioDelta)) for events in heard]
    assert said[0] == said[1]
    assert len(said[0]) > 24_000


@pytest.mark.gen_test(timeout=20)
async def test_text_is_answered() -> None:
    async with live() as connector, connector.connect(SETUP) as connection:
        await connection.send_text("hello")
        events = await events_until(connection, Usage)
    assert joined(events, OutputTranscript)
    assert TurnComplete() in events


@pytest.mark.gen_test(timeout=20)
async def test_a_user_may_mark_the_turns_by_hand() -> None:
    setup = UpstreamSetup("gemini-3.8-live", modality="audio", turn_detection="manual")
    async with live() as connector, connector.connect(setup) as connection:
        await connection.send_activity_start()
        await speak(connection, numbered.speak(7, 1))
        await connection.send_activity_end()
        events = await events_until(connection, TurnComplete)
    assert numbered.numbers(joined(events, InputTranscript)) == [7]


@pytest.mark.gen_test(timeout=20)
async def test_audio_stream_end_ends_the_turn_where_the_model_honours_it() -> None:
    setup = UpstreamSetup("gemini-3.1-flash-live-preview", modality="audio")
    async with live() as connector, connector.connect(setup) as connection:
        await speak(connection, numbered.speak(7, 1))
        await connection.send_audio_stream_end()
        events = await events_until(connection, TurnComplete)
    assert numbered.numbers(joined(events, InputTranscript)) == [7]


@pytest.mark.gen_test(timeout=20)
async def test_a_handle_resumes_the_conversation() -> None:
    async with emulator() as one, connector_to(one) as connector:
        async with connector.connect(SETUP) as connection:
            await connection.send_text("hello")
            await events_until(connection, TurnComplete)
            [*_, update] = await events_until(connection, ResumptionHandle)
            assert isinstance(update, ResumptionHandle)
        await dial(connector, handle=update.handle)
        resumed = [entry for entry in one.journal if entry["what"] == "set_up"][-1]
    assert resumed["resumed"]
    assert resumed["history"] == 2


@pytest.mark.gen_test(timeout=20)
async def test_a_fresh_connection_can_be_seeded_and_does_not_answer_its_seed() -> None:
    history = (HistoryTurn("user", "My name is Ada."), HistoryTurn("model", "Hello Ada."))
    async with emulator() as one, connector_to(one) as connector:
        async with connector.connect(SETUP, seeded=True) as connection:
            await connection.send_history(history)
            await connection.send_text("hello")
            events = await events_until(connection, TurnComplete)
            [*_, update] = await events_until(connection, ResumptionHandle)
            assert isinstance(update, ResumptionHandle)
        await dial(connector, handle=update.handle)
        resumed = [entry for entry in one.journal if entry["what"] == "set_up"][-1]
    assert sum(isinstance(event, TurnComplete) for event in events) == 1
    assert resumed["history"] == 4


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.gen_test(timeout=20)
async def test_every_served_model_accepts_all_that_may_be_asked_of_it(name: str) -> None:
    vad = VoiceActivityDetection("high", "low", 20, 500)
    async with live() as connector:
        for turns in ("auto", "manual"):
            asked = UpstreamSetup(
                name,
                voice="Kore",
                language="en-US",
                system_instruction="Be nice.",
                turn_detection=turns,
                vad=vad,
            )
            await dial(connector, adapt(asked, PROFILES[name]), seeded=True)


@pytest.mark.gen_test(timeout=30)
async def test_a_hundred_connections_live_on_one_client() -> None:
    async with live() as connector:

        async def ask() -> str:
            async with connector.connect(SETUP) as connection:
                await connection.send_text("hello")
                return joined(await events_until(connection, TurnComplete), OutputTranscript)

        answers = await asyncio.gather(*(ask() for _ in range(100)))
    assert len(set(answers)) == 1


# Starting


@pytest.mark.gen_test(timeout=20)
async def test_a_dial_waits_for_the_sdk_to_be_loaded() -> None:
    async with emulator() as one:
        connector = GeminiConnector(GeminiSettings(), api_key=KEY, base_url=one.url, ca_file=one.ca_file)
        dialling = asyncio.create_task(dial(connector))
        await asyncio.sleep(0)
        assert not connector.ready
        await connector.start()
        assert connector.ready
        await dialling
        await connector.close()
        with pytest.raises(UpstreamUnavailable):
            await dial(connector)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://127.0.0.1", "wss://127.0.0.1", "127.0.0.1"])
def test_an_address_that_is_not_https_is_a_settings_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        GeminiConnector(GeminiSettings(), api_key=KEY, base_url=url)
    assert "base_url" in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)


@pytest.mark.gen_test(timeout=20)
async def test_a_ca_file_that_cannot_be_read_is_a_settings_error() -> None:
    connector = GeminiConnector(GeminiSettings(ca_file="/nowhere.pem"), api_key=KEY)
    with pytest.raises(SettingsError, match="ca_file"):
        await connector.start()


# Refusals


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UpstreamRefused),
        (401, UpstreamRefused),
        (403, UpstreamRefused),
        (404, UpstreamRefused),
        (429, UpstreamQuota),
        (500, UpstreamUnavailable),
        (503, UpstreamUnavailable),
    ],
)
@pytest.mark.gen_test(timeout=20)
async def test_an_http_refusal_has_its_error(status: int, error: type[UpstreamError]) -> None:
    async with live({"upgrade": {"http_status": status}}) as connector:
        with pytest.raises(error) as refused:
            await dial(connector)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1007, "Request contains an invalid argument.", ClosingKind.RETRY_FRESH),
        (1007, "Thinking level is not supported for this model", ClosingKind.FATAL),
        (1008, "BidiGenerateContent session not found", ClosingKind.RETRY_FRESH),
        (1011, "Internal error occurred.", ClosingKind.RETRY_WITH_HANDLE),
        (1011, "You exceeded your current quota", ClosingKind.QUOTA),
        (1000, "", ClosingKind.RETRY_WITH_HANDLE),
    ],
)
@pytest.mark.gen_test(timeout=20)
async def test_a_close_instead_of_set_up_has_its_kind(code: int, reason: str, kind: ClosingKind) -> None:
    async with live({"setup": {"close": {"code": code, "reason": reason}}}) as connector:
        with pytest.raises(UpstreamError) as refused:
            await dial(connector)
    closed = refused.value
    assert isinstance(closed, ConnectionClosed)
    assert (closed.ws_code, closed.ws_reason, closed.kind) == (code, reason, kind)


@pytest.mark.gen_test(timeout=20)
async def test_a_model_that_never_confirms_the_set_up_times_out() -> None:
    async with live({"setup": {"never": True}}, connect_timeout=0.3) as connector:
        began_at = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            await dial(connector)
    assert time.monotonic() - began_at < 1.0


@pytest.mark.gen_test(timeout=20)
async def test_a_server_that_says_nothing_at_all_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        connector = GeminiConnector(GeminiSettings(connect_timeout=0.3), api_key=KEY, base_url=url)
        await connector.start()
        with pytest.raises(UpstreamTimeout):
            await dial(connector)
        await connector.close()


@pytest.mark.gen_test(timeout=20)
async def test_a_first_message_that_is_not_set_up_complete_is_no_connection() -> None:
    async with live({"setup": {"wrong_first": True}}) as connector:
        with pytest.raises(UpstreamUnavailable):
            await dial(connector)


@pytest.mark.gen_test(timeout=20)
async def test_nobody_at_the_address_is_unavailable(unused_port: int) -> None:
    url = f"https://127.0.0.1:{unused_port}"
    connector = GeminiConnector(GeminiSettings(), api_key=KEY, base_url=url)
    await connector.start()
    with pytest.raises(UpstreamUnavailable):
        await dial(connector)
    await connector.close()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@pytest.mark.gen_test(timeout=20)
async def test_a_certificate_that_is_not_trusted_is_unavailable() -> None:
    async with emulator() as one:
        connector = GeminiConnector(GeminiSettings(), api_key=KEY, base_url=one.url)
        await connector.start()
        with pytest.raises(UpstreamUnavailable):
            await dial(connector)
        await connector.close()


@pytest.mark.gen_test(timeout=20)
async def test_when_quota_is_used_up_other_sessions_are_refused_without_a_dial() -> None:
    async with emulator({"upgrade": {"http_status": 429}}) as one, connector_to(one) as connector:
        with pytest.raises(UpstreamQuota) as first:
            await dial(connector)
        one.set_scenario("", {})
        with pytest.raises(UpstreamQuota) as second:
            await dial(connector)
        assert one.connections == {}
        assert not [entry for entry in one.journal if entry["what"] == "opened"]
    assert first.value.retry_after_s == pytest.approx(5.0, abs=0.1)
    assert second.value.retry_after_s is not None


# Trouble under way


async def until_it_ends(connection: UpstreamConnection) -> UpstreamError:
    with pytest.raises(UpstreamError) as ended:
        await events_until(connection, type(None))
    return ended.value


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1008, "The operation was aborted."), (1011, "Internal error occurred."), (1007, "ä" * 61)],
)
@pytest.mark.gen_test(timeout=20)
async def test_a_close_by_the_model_is_raised_with_code_and_reason(code: int, reason: str) -> None:
    scenario = {"connection": {"close_at": {"client_message": 2, "code": code, "reason": reason}}}
    async with live(scenario) as connector, connector.connect(SETUP) as connection:
        await connection.send_text("hello")
        closed = await until_it_ends(connection)
        assert isinstance(closed, ConnectionClosed)
        assert (closed.ws_code, closed.ws_reason) == (code, reason)
        for send in (
            connection.send_audio(bytes(2)),
            connection.send_text("hello"),
            connection.send_activity_start(),
            connection.send_activity_end(),
            connection.send_audio_stream_end(),
            connection.send_history([HistoryTurn("user", "hello")]),
        ):
            with pytest.raises(UpstreamError):
                await send


@pytest.mark.gen_test(timeout=20)
async def test_a_connection_that_is_cut_ends_with_1006() -> None:
    scenario = {"connection": {"abort_at": {"client_message": 2}}}
    async with live(scenario) as connector, connector.connect(SETUP) as connection:
        await connection.send_text("hello")
        closed = await until_it_ends(connection)
    assert isinstance(closed, ConnectionClosed)
    assert closed.ws_code == 1006


@pytest.mark.parametrize(
    "nonsense",
    [
        {"malformed": "json"},
        {"malformed": "utf8"},
        {"malformed": "empty"},
        {"malformed": "object"},
        {"unknown_top_level": True},
        {"unknown_field": True},
        {"error_object": True},
        {"wrong_type": True},
        {"text_frames": True},
        {"huge_frame_bytes": 5_000_000},
    ],
)
@pytest.mark.gen_test(timeout=20)
async def test_a_message_that_means_nothing_is_passed_over(nonsense: dict[str, Any]) -> None:
    async with live({"stream": nonsense}) as connector, connector.connect(SETUP) as connection:
        await connection.send_text("hello")
        events = await events_until(connection, TurnComplete)
    assert joined(events, OutputTranscript)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.gen_test(timeout=20)
async def test_an_enum_value_of_tomorrow_is_passed_over() -> None:
    async with live({"stream": {"unknown_enum": True}}) as connector, connector.connect(SETUP) as connection:
        await connection.send_text("hello")
        assert joined(await events_until(connection, TurnComplete), OutputTranscript)


@pytest.mark.gen_test(timeout=20)
async def test_a_connection_that_sends_nothing_but_nonsense_is_given_up() -> None:
    async with emulator() as one, connector_to(one) as connector, connector.connect(SETUP) as connection:
        [handler] = one.connections.values()
        for _ in range(20):
            await handler.send_frame(b"{", binary=True)
        error = await until_it_ends(connection)
    assert type(error) is UpstreamUnavailable


@pytest.mark.gen_test(timeout=20)
async def test_samples_that_were_cut_in_two_arrive_whole() -> None:
    said = []
    for stream in ({}, {"odd_bytes": True}):
        async with live({"stream": stream}) as connector, connector.connect(SETUP) as connection:
            await connection.send_text("hello")
            events = await events_until(connection, TurnComplete)
        pieces = [event.pcm for event in events if isinstance(event, AudioDelta)]
        assert all(len(pcm) % 2 == 0 for pcm in pieces)
        said.append(b"".join(pieces))
    assert said[0] == said[1]


# Secrets


@pytest.mark.gen_test(timeout=30)
async def test_neither_key_nor_address_nor_geminis_words_reach_an_error_and_the_key_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    errors = []
    for scenario in (
        {},
        {"upgrade": {"http_status": 403}},
        {"setup": {"close": {"code": 1008, "reason": f"key {KEY} is bad, says Google"}}},
        {"connection": {"close_at": {"client_message": 2, "code": 1007, "reason": f"{KEY}, says Google"}}},
    ):
        async with live(scenario) as connector:
            try:
                async with connector.connect(SETUP) as connection:
                    await connection.send_text("hello")
                    await events_until(connection, TurnComplete)
            except UpstreamError as error:
                errors.append(error)
    assert len(errors) == 3
    for told in errors:
        assert not any(word in str(told) for word in (KEY, "127.0.0.1", "Google"))
        assert told.__suppress_context__ or told.__context__ is None
        assert KEY not in repr(vars(told))
    assert KEY not in caplog.text
    assert "says Google" in caplog.text


@asynccontextmanager
async def answering(
    certificate: EphemeralCertificate, status: str, location: str
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request so: its address, and the requests that it was sent."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        head = f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate.server_context())
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


@asynccontextmanager
async def redirected() -> AsyncIterator[tuple[str, str, list[bytes]]]:
    """Address and certificate of a server that redirects, and the requests that arrive where it leads."""
    certificate = EphemeralCertificate("127.0.0.1")
    async with (
        answering(certificate, "403 Forbidden", "") as (elsewhere, arrived),
        answering(certificate, "302 Found", f"wss://{elsewhere}/ws") as (address, asked),
    ):
        yield f"https://{address}", certificate.ca_file, arrived
    certificate.close()
    assert [KEY.encode() in request for request in asked] == [True]


@pytest.mark.gen_test(timeout=20)
async def test_no_redirect_takes_the_key_to_another_host() -> None:
    async with redirected() as (url, ca_file, arrived):
        connector = GeminiConnector(GeminiSettings(), api_key=KEY, base_url=url, ca_file=ca_file)
        await connector.start()
        with pytest.raises(UpstreamRefused):
            await dial(connector)
        await connector.close()
    assert arrived == []


@pytest.mark.gen_test(timeout=20)
async def test_a_redirect_takes_the_key_along_where_the_sdk_dials_by_itself() -> None:
    """What the protection is for: if this fails, websockets does it by itself now."""
    async with redirected() as (url, ca_file, arrived):
        with pytest.raises(websockets.InvalidStatus):
            async with plain_connection(url, ca_file):
                pass
    assert [KEY.encode() in request for request in arrived] == [True]


# Nothing escapes unmapped


def all_subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(all_subclasses(one) for one in kind.__subclasses__()))


def test_everything_that_the_sdk_and_websockets_raise_is_caught() -> None:
    raised = all_subclasses(websockets.WebSocketException) | all_subclasses(genai_errors.APIError)
    assert all(issubclass(one, foreign_errors()) for one in raised)
    assert all(
        issubclass(one, foreign_errors()) for one in (ConnectionResetError, ssl.SSLError, TimeoutError)
    )


@pytest.mark.parametrize(
    ("error", "mapped"),
    [
        (genai_errors.APIError(1011, "Internal error occurred.", None), ConnectionClosed),
        (genai_errors.APIError(1000, "", None), ConnectionClosed),
        (genai_errors.ClientError(429, {"code": 429, "message": "quota"}, None), UpstreamQuota),
        (genai_errors.ClientError(403, {"code": 403}, None), UpstreamRefused),
        (websockets.ConnectionClosedError(None, None), ConnectionClosed),
        (websockets.InvalidURI("x", "y"), UpstreamUnavailable),
        (ConnectionRefusedError(), UpstreamUnavailable),
        (TimeoutError(), UpstreamTimeout),
    ],
)
def test_a_foreign_error_has_its_own(error: Exception, mapped: type[UpstreamError]) -> None:
    assert type(map_error(error)) is mapped


@pytest.mark.gen_test(timeout=20)
async def test_leaving_closes_the_socket() -> None:
    async with emulator() as one, connector_to(one) as connector:
        await dial(connector)
        await until(lambda: not one.connections)
        closed = [entry for entry in one.journal if entry["what"] == "closed"]
    assert [entry["code"] for entry in closed] == [1000]
