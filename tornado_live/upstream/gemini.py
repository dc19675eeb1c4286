"""Gemini Live through google-genai: the only module that imports the SDK.

What the SDK makes of a server message becomes events by `translate`; what it or websockets raise becomes
errors of `errors.py`. Nothing that is raised here holds an address, a key or Gemini's own words.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import websockets

from tornado_live.audio import TARGET
from tornado_live.errors import SettingsError, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from tornado_live.settings.models import GeminiSettings
from tornado_live.upstream import hotpath
from tornado_live.upstream.base import (
    AudioDelta,
    ConnectionEvent,
    GenerationComplete,
    GoAway,
    HistoryTurn,
    InputTranscript,
    InterimInputTranscript,
    Interrupted,
    OutputTranscript,
    ResumptionHandle,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnComplete,
    UpstreamConnection,
    UpstreamSetup,
    Usage,
)
from tornado_live.upstream.breaker import QuotaBreaker
from tornado_live.upstream.closing import ClosingKind, ConnectionClosed, kind_of, refused_upgrade

if TYPE_CHECKING:
    from google.genai import Client, types
    from google.genai.live import AsyncSession

log = logging.getLogger(__name__)

# websockets logs request headers, the key among them, where its logger is at DEBUG.
_websocket_log = logging.getLogger(f"{__name__}.websocket")
_websocket_log.setLevel(logging.INFO)

GOOGLE_URL = "https://generativelanguage.googleapis.com"
MAX_MESSAGE_BYTES = 16 * 2**20
CLOSE_TIMEOUT_S = 1.0
PING_INTERVAL_S = 30.0
PING_TIMEOUT_S = 60.0
"""Google's pongs were seen to take half a minute; 20 s, the default, ends sound connections."""
MAX_QUEUE_FRAMES = 64
MAX_BAD_MESSAGES = 8
"""So many messages in a row that mean nothing end the connection."""


class GeminiConnector:
    """Dials Gemini Live. One per server; all its use is on one event loop.

    Args:
        api_key: goes into a header of each dial and nowhere else.
        base_url: where to dial instead of Google, `https` only; by default that of the settings.
        ca_file: PEM file of the authorities to trust there; by default that of the settings.

    Raises:
        SettingsError: the base URL is not an https one.
    """

    def __init__(
        self,
        settings: GeminiSettings,
        *,
        api_key: str,
        base_url: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._settings = settings
        self._api_key = api_key
        self._base_url = base_url or settings.base_url or GOOGLE_URL
        if urlsplit(self._base_url).scheme != "https":
            raise SettingsError(["gemini.base_url: must begin with https://."])
        self._ca_file = ca_file or settings.ca_file
        self._client: Client | None = None
        self._loaded = asyncio.Event()
        self._breaker = QuotaBreaker()

    @property
    def ready(self) -> bool:
        """The SDK is loaded: a dial need not wait for it."""
        return self._client is not None

    async def start(self) -> None:
        """Loads the SDK on a thread, which takes a second or two. Dials made meanwhile wait for it.

        Raises:
            SettingsError: the CA file cannot be read.
        """
        loop = asyncio.get_running_loop()
        self._client = await loop.run_in_executor(None, self._load)
        self._loaded.set()

    async def close(self) -> None:
        """To be called when no connection is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aio.aclose()
            client.close()

    def _load(self) -> Client:
        from google import genai
        from google.genai import types

        websocket_args: dict[str, Any] = {
            "open_timeout": self._settings.connect_timeout,
            "close_timeout": CLOSE_TIMEOUT_S,
            "ping_interval": PING_INTERVAL_S,
            "ping_timeout": PING_TIMEOUT_S,
            "max_size": MAX_MESSAGE_BYTES,
            "max_queue": MAX_QUEUE_FRAMES,
            "compression": None,
            "proxy": None if _is_loopback(self._base_url) else True,
            "logger": _websocket_log,
            "create_connection": hotpath.Wire,
        }
        if self._ca_file is not None:
            try:
                websocket_args["ssl"] = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise SettingsError(["gemini.ca_file: cannot be read as PEM certificates."]) from error
        client = genai.Client(
            api_key=self._api_key,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=self._base_url,
                api_version=self._settings.api_version,
                async_client_args=websocket_args,
            ),
        )
        _warm_up(types)
        return client

    @asynccontextmanager
    async def connect(
        self, setup: UpstreamSetup, *, handle: str | None = None, seeded: bool = False
    ) -> AsyncGenerator[UpstreamConnection]:
        """A connection that is set up: see `base.Connector`."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    connection = await self._dial(stack, setup, handle, seeded)
            except TimeoutError:
                log.warning("The model did not answer a dial within %.1f s.", self._settings.connect_timeout)
                raise UpstreamTimeout from None
            yield connection

    async def _dial(
        self, stack: AsyncExitStack, setup: UpstreamSetup, handle: str | None, seeded: bool
    ) -> GeminiConnection:
        await self._loaded.wait()
        if self._client is None:
            raise UpstreamUnavailable
        self._breaker.check()
        hotpath.handed_over.set(None)
        config = live_config(setup, handle=handle, seeded=seeded)
        dial = self._client.aio.live.connect(model=f"models/{setup.model}", config=config)
        try:
            session = await stack.enter_async_context(dial)
        except foreign_errors() + _NONSENSE as error:
            raise self._mapped(error) from None
        # Left by an exception, a cancellation too, the SDK's context would close with 1011.
        stack.push_async_callback(session.close)
        if session.setup_complete is None:
            log.warning("The model's first message was not setupComplete.")
            raise UpstreamUnavailable
        self._breaker.accepted()
        wire = hotpath.handed_over.get()
        # Timers and tasks keep the context that they were made in, and with it the socket.
        hotpath.handed_over.set(None)
        return GeminiConnection(session, wire, self._mapped)

    def _mapped(self, error: Exception) -> UpstreamError:
        """Logs what came from the SDK and returns what to raise for it."""
        mapped = map_error(error)
        if kind_of(mapped) is ClosingKind.QUOTA:
            pause = self._breaker.refused()
            if isinstance(mapped, ConnectionClosed):
                mapped.retry_after_s = pause.retry_after_s
            else:
                mapped = pause
        log.warning("The model's connection failed: %s", describe(error).replace(self._api_key, "[key]"))
        if isinstance(mapped, ConnectionClosed):
            mapped.ws_reason = mapped.ws_reason.replace(self._api_key, "[key]")
        return mapped


class GeminiConnection:
    """One connection: `base.UpstreamConnection` over the SDK's session.

    Args:
        wire: the session's WebSocket, for the hot path; None: everything goes through the SDK.
        mapped: turns what the SDK raises into what to raise.
    """

    def __init__(
        self, session: AsyncSession, wire: hotpath.Wire | None, mapped: Callable[[Exception], UpstreamError]
    ) -> None:
        self._session = session
        self._wire = wire
        self._mapped = mapped
        self._half_sample = b""

    async def send_audio(self, pcm: bytes) -> None:
        try:
            if self._wire is not None:
                await self._wire.send(hotpath.encode_audio(pcm), text=True)
            else:
                blob = {"data": pcm, "mime_type": f"audio/pcm;rate={TARGET.rate_hz}"}
                await self._session.send_realtime_input(audio=blob)  # type: ignore[arg-type]
        except foreign_errors() as error:
            raise self._mapped(error) from None

    async def send_text(self, text: str) -> None:
        await self._send_realtime(text=text)

    async def send_activity_start(self) -> None:
        await self._send_realtime(activity_start={})

    async def send_activity_end(self) -> None:
        await self._send_realtime(activity_end={})

    async def send_audio_stream_end(self) -> None:
        await self._send_realtime(audio_stream_end=True)

    async def _send_realtime(self, **message: Any) -> None:
        try:
            await self._session.send_realtime_input(**message)
        except foreign_errors() as error:
            raise self._mapped(error) from None

    async def send_history(self, turns: Sequence[HistoryTurn]) -> None:
        contents: list[Any] = [{"role": turn.role, "parts": [{"text": turn.text}]} for turn in turns]
        try:
            await self._session.send_client_content(turns=contents, turn_complete=True)
        except foreign_errors() as error:
            raise self._mapped(error) from None

    async def receive(self) -> AsyncIterator[list[ConnectionEvent]]:
        bad = 0
        while bad < MAX_BAD_MESSAGES:
            try:
                events = await self._next_events()
            except _NONSENSE as error:
                bad += 1
                log.warning("The model sent a message that means nothing (%s).", type(error).__name__)
                continue
            except foreign_errors() as error:
                raise self._mapped(error) from None
            bad = 0
            if events:
                yield self._whole_samples(events)
        raise UpstreamUnavailable("The speech model sends messages that mean nothing.")

    async def _next_events(self) -> list[ConnectionEvent]:
        if self._wire is not None:
            raw = await self._wire.recv(decode=False)
            assert isinstance(raw, bytes)
            events = hotpath.parse(raw)
            if events is not None:
                return events
            self._wire.put_back(raw)
        # The SDK's generator ends with each turn; nothing is lost by making one for each message.
        async with aclosing(self._session.receive()) as messages:  # type: ignore[type-var]
            return translate(await anext(messages))

    def _whole_samples(self, events: list[ConnectionEvent]) -> list[ConnectionEvent]:
        """Holds the first byte of a sample that was cut in two back until its second one comes."""
        for index, event in enumerate(events):
            if isinstance(event, AudioDelta):
                if self._half_sample or len(event.pcm) % 2:
                    pcm = self._half_sample + event.pcm
                    whole = len(pcm) & ~1
                    self._half_sample = pcm[whole:]
                    events[index] = AudioDelta(pcm[:whole])
            elif isinstance(event, Interrupted | TurnComplete):
                self._half_sample = b""
        return events


def live_config(setup: UpstreamSetup, *, handle: str | None, seeded: bool) -> types.LiveConnectConfig:
    """The SDK's form of a set-up; made anew for each dial, since the SDK changes what it is given."""
    from google.genai import types

    config = types.LiveConnectConfig(
        response_modalities=[types.Modality(setup.modality.upper())],
        system_instruction=setup.system_instruction,
        session_resumption=types.SessionResumptionConfig(handle=handle),
        realtime_input_config=types.RealtimeInputConfig(
            automatic_activity_detection=_activity_detection(setup)
        ),
    )
    languages = [setup.language] if setup.language else None
    if setup.input_transcription:
        config.input_audio_transcription = types.AudioTranscriptionConfig(language_codes=languages)
    if setup.output_transcription and setup.modality == "audio":
        config.output_audio_transcription = types.AudioTranscriptionConfig()
    if setup.modality == "audio" and (setup.voice or setup.language):
        voice = types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name=setup.voice))
        config.speech_config = types.SpeechConfig(
            voice_config=voice if setup.voice else None, language_code=setup.language
        )
    if setup.compression:
        config.context_window_compression = types.ContextWindowCompressionConfig(
            sliding_window=types.SlidingWindow()
        )
    if seeded:
        config.history_config = types.HistoryConfig(initial_history_in_client_content=True)
    return config


def _activity_detection(setup: UpstreamSetup) -> types.AutomaticActivityDetection:
    from google.genai import types

    if setup.turn_detection == "manual":
        return types.AutomaticActivityDetection(disabled=True)
    vad = setup.vad
    start, end = vad.start_sensitivity, vad.end_sensitivity
    return types.AutomaticActivityDetection(
        start_of_speech_sensitivity=types.StartSensitivity(f"START_SENSITIVITY_{start.upper()}")
        if start
        else None,
        end_of_speech_sensitivity=types.EndSensitivity(f"END_SENSITIVITY_{end.upper()}") if end else None,
        prefix_padding_ms=vad.prefix_padding_ms,
        silence_duration_ms=vad.silence_duration_ms,
    )


def translate(message: types.LiveServerMessage) -> list[ConnectionEvent]:
    """The events of one message, which may carry several fields, always in the order of `base`."""
    events: list[ConnectionEvent] = []
    content = message.server_content
    if content is not None:
        _add_content(content, events)
    usage = message.usage_metadata
    if usage is not None:
        events.append(
            Usage(
                usage.prompt_token_count or 0,
                usage.response_token_count or 0,
                usage.thoughts_token_count or 0,
                usage.total_token_count or 0,
                _by_modality(usage.prompt_tokens_details),
                _by_modality(usage.response_tokens_details),
            )
        )
    if message.voice_activity is not None:
        match _value(message.voice_activity.voice_activity_type):
            case "ACTIVITY_START":
                events.append(SpeechStarted())
            case "ACTIVITY_END":
                events.append(SpeechStopped())
    if message.go_away is not None:
        events.append(GoAway(_seconds(message.go_away.time_left)))
    update = message.session_resumption_update
    if update is not None:
        events.append(ResumptionHandle(update.new_handle if update.resumable and update.new_handle else None))
    if message.tool_call is not None:
        log.warning("The model calls a function though it was given none; it gets no answer.")
    return events


def _add_content(content: types.LiveServerContent, events: list[ConnectionEvent]) -> None:
    parts = (content.model_turn.parts if content.model_turn else None) or ()
    for part in parts:
        blob = part.inline_data
        if blob is not None and blob.data and (blob.mime_type or "").startswith("audio/pcm"):
            events.append(AudioDelta(blob.data))
    events.extend(TextDelta(part.text) for part in parts if part.text and not part.thought)
    for transcription, event in (
        (content.interim_input_transcription, InterimInputTranscript),
        (content.input_transcription, InputTranscript),
        (content.output_transcription, OutputTranscript),
    ):
        if transcription is not None and transcription.text:
            events.append(event(transcription.text))
    if content.generation_complete:
        events.append(GenerationComplete())
    if content.interrupted:
        events.append(Interrupted())
    status = _value(content.interaction_status)
    # A lone IDLE ends an answer of several turns.
    if content.turn_complete or status == "IDLE":
        events.append(TurnComplete(_value(content.turn_complete_reason), idle=status != "IN_PROGRESS"))


def _value(member: Any) -> str | None:
    """An enum member's value, None where it is unset or unspecified."""
    value: str | None = None if member is None else member.value
    return None if value is None or value.endswith("_UNSPECIFIED") else value


def _by_modality(details: list[types.ModalityTokenCount] | None) -> tuple[tuple[str, int], ...]:
    return tuple(((_value(one.modality) or "other").lower(), one.token_count or 0) for one in details or ())


def _seconds(duration: str | None) -> float:
    """A ProtoJSON duration, `49.5s`; 0 where there is none that can be read."""
    try:
        return float((duration or "0s").removesuffix("s"))
    except ValueError:
        return 0.0


_NONSENSE = (ValueError, TypeError, AttributeError, KeyError)
"""What the SDK raises on a message that is no JSON, has no known key, or values of a wrong type."""


def foreign_errors() -> tuple[type[Exception], ...]:
    """Everything that the SDK and websockets raise when a connection cannot be made or is gone."""
    from google.genai import errors

    return (errors.APIError, websockets.WebSocketException, OSError, TimeoutError, EOFError)


def map_error(error: Exception) -> UpstreamError:
    """The error of this project for one of `foreign_errors`, without Gemini's words in its text."""
    from google.genai import errors

    if isinstance(error, errors.APIError):
        if isinstance(error.details, str):
            return ConnectionClosed(error.code, error.details)
        return refused_upgrade(error.code or 0, str(error.details))
    if isinstance(error, websockets.ConnectionClosed):
        return ConnectionClosed(error.rcvd.code, error.rcvd.reason) if error.rcvd else ConnectionClosed(1006)
    if isinstance(error, websockets.InvalidStatus):
        return refused_upgrade(
            error.response.status_code, bytes(error.response.body or b"").decode(errors="replace")
        )
    if isinstance(error, TimeoutError):
        return UpstreamTimeout()
    return UpstreamUnavailable()


def describe(error: Exception) -> str:
    """The error for the log: Gemini's words shortened, no address."""
    from google.genai import errors

    if isinstance(error, errors.APIError):
        return f"closed {error.code} {str(error.details)[:200]!r}"
    if isinstance(error, websockets.ConnectionClosed):
        return f"closed {error.rcvd.code} {error.rcvd.reason!r}" if error.rcvd else "lost"
    if isinstance(error, websockets.InvalidStatus):
        body = bytes(error.response.body or b"").decode(errors="replace")
        return f"HTTP {error.response.status_code} {body[:200]!r}"
    return type(error).__name__


def _warm_up(types: Any) -> None:
    """Makes the SDK build its parsers now: the first message would else take 40 ms of the loop's time."""
    types.LiveServerMessage.model_validate({"server_content": {"turn_complete": True}, "usage_metadata": {}})
    types.LiveSendRealtimeInputParameters.model_validate({"text": ""})
    types.LiveConnectParameters(
        model="m", config=live_config(UpstreamSetup("m", voice="Kore"), handle=None, seeded=True)
    ).model_dump(exclude_none=True)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
