"""A whole recording as one utterance: no session is registered, nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tornado_live.audio import TARGET, StreamFormat
from tornado_live.errors import AudioMalformed, AudioTooLong, TooManySessions, UpstreamError, UpstreamTimeout
from tornado_live.sessions.intake import Chunk, Codecs, Intake, IntakePolicy
from tornado_live.sessions.options import SessionOptions
from tornado_live.upstream.base import (
    AudioDelta,
    InputTranscript,
    LinkEvent,
    LinkFailed,
    OutputTranscript,
    TextDelta,
    TurnComplete,
    TurnFailed,
    UpstreamLink,
    Usage,
)

PIECE_BYTES = 32 * 2**10
MAX_BACKLOG_S = 5.0
BACKLOG_POLL_S = 0.02
LATE_TRANSCRIPT_S = 1.0

MakeOneShotLink = Callable[[SessionOptions, Callable[[LinkEvent], None]], tuple[UpstreamLink, str]]
"""(options, on_event) → the link, not yet started, and the served model's name."""


@dataclass(slots=True)
class OneShotResult:
    """What was said and answered; `audio` is the reply's voice, `audio.REPLY` samples."""

    served_model: str
    input_text: str = ""
    reply_text: str = ""
    audio: bytes = b""
    seconds: float = 0.0
    tokens: int = 0


@dataclass(slots=True)
class _Hearing:
    """Collects the events of the one turn."""

    said: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
    audio: list[bytes] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: int = 0
    error: UpstreamError | None = None

    def on_event(self, event: LinkEvent) -> None:
        match event:
            case InputTranscript(text):
                self.said.append(text)
                self.heard.set()
            case TextDelta(text):
                self.written.append(text)
            case OutputTranscript(text):
                self.spoken.append(text)
            case AudioDelta(pcm):
                self.audio.append(pcm)
            case Usage(total_tokens=tokens):
                self.tokens += tokens
            case TurnComplete(idle=True) | TurnFailed():
                self.over.set()
            case LinkFailed(error):
                self.error = error
                self.over.set()


class OneShot:
    """Transcribes whole recordings.

    Args:
        max_seconds: decoded audio of one request.
        max_at_once: requests under way.
        connect_s: wait for the upstream.
        answer_s: wait for the answer after the audio has been sent, besides half the audio's length.
    """

    def __init__(
        self,
        codecs: Codecs,
        make_link: MakeOneShotLink,
        policy: IntakePolicy,
        *,
        max_seconds: float,
        max_at_once: int,
        connect_s: float,
        answer_s: float = 30.0,
    ) -> None:
        self._codecs = codecs
        self._make_link = make_link
        self._policy = replace(policy, credit_rate=None)
        self._max_seconds = max_seconds
        self._max_at_once = max_at_once
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._running = 0

    async def transcribe(
        self, audio: bytes, declared: StreamFormat, options: SessionOptions
    ) -> OneShotResult:
        """Has the model hear the recording and answer it.

        Raises:
            AudioError: it cannot be decoded, or is too long.
            UpstreamError: the model refused, failed or did not answer.
            TooManySessions
        """
        if self._running >= self._max_at_once:
            raise TooManySessions(retry_after_s=5.0)
        self._running += 1
        hearing = _Hearing()
        link, served = self._make_link(replace(options, turn_detection="manual"), hearing.on_event)
        link.start()
        try:
            if not await link.wait_ready(self._connect_s):
                raise UpstreamTimeout
            link.activity_start()
            seconds = await self._send(link, audio, declared)
            link.activity_end()
            await self._heard(hearing, seconds)
        finally:
            self._running -= 1
            await link.stop()
        return OneShotResult(
            served,
            "".join(hearing.said).strip(),
            ("".join(hearing.written) or "".join(hearing.spoken)).strip(),
            b"".join(hearing.audio) if options.modality == "audio" else b"",
            seconds,
            hearing.tokens,
        )

    async def _send(self, link: UpstreamLink, audio: bytes, declared: StreamFormat) -> float:
        decoded: list[bytes] = []
        intake = Intake(self._codecs, self._policy, lambda pcm, seq: decoded.append(pcm))
        seconds = 0.0

        async def pass_on() -> None:
            nonlocal seconds
            for pcm in decoded:
                seconds += TARGET.seconds(len(pcm))
                if seconds > self._max_seconds:
                    raise AudioTooLong(
                        f"The recording is longer than the {self._max_seconds / 60:g} minutes accepted."
                    )
                link.send_audio(pcm)
                while link.backlog_s > MAX_BACKLOG_S:  # noqa: ASYNC110 - the link has no event for it
                    await asyncio.sleep(BACKLOG_POLL_S)
            decoded.clear()

        for start in range(0, len(audio), PIECE_BYTES):
            chunk = Chunk(audio[start : start + PIECE_BYTES], declared)
            intake.offer(chunk)
            await chunk.done
            await pass_on()
        await intake.finish()
        await pass_on()
        if not seconds:
            raise AudioMalformed("There is no audio in the recording.")
        return seconds

    async def _heard(self, hearing: _Hearing, seconds: float) -> None:
        try:
            await asyncio.wait_for(hearing.over.wait(), self._answer_s + seconds / 2)
        except TimeoutError:
            raise UpstreamTimeout from None
        if hearing.error is not None:
            raise hearing.error
        if not hearing.said:
            # Transcripts are not ordered with the reply; one may still be on its way.
            try:
                await asyncio.wait_for(hearing.heard.wait(), LATE_TRANSCRIPT_S)
            except TimeoutError:
                pass
