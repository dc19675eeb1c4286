"""One connection's voice: an answer out, at the pace and in the order of the real service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from tornado_live.emulator import protocol, voice
from tornado_live.emulator.profiles import ModelProfile
from tornado_live.emulator.protocol import ServerMessage
from tornado_live.emulator.scenarios import Scenario
from tornado_live.emulator.turns import Turn
from tornado_live.emulator.usage import AUDIO_TOKENS_PER_S, TokenMeter, text_tokens
from tornado_live.emulator.voice import Spoken, Voice

_MALFORMED = {"json": b'{"serverContent": {', "utf8": b'{"text": "\xff\xfe"}', "empty": b"", "object": b"{}"}


class Speaking:
    """
    Args:
        modality: `TEXT` or `AUDIO`.
        transcribe: sends the words with the audio.
    """

    def __init__(
        self,
        profile: ModelProfile,
        scenario: Scenario,
        modality: str,
        transcribe: bool,
        voice: Voice,
        meter: TokenMeter,
        send: Callable[[ServerMessage], None],
        send_raw: Callable[[bytes], None],
    ) -> None:
        self._profile = profile
        self._pace = scenario.pace
        self._faults = scenario.stream
        self._modality = modality
        self._transcribe = transcribe
        self._voice = voice
        self._meter = meter
        self._send = send
        self._send_raw = send_raw
        self._audio_messages = 0
        self.muted = False

    async def say(self, turn: Turn, text: str, *, idle: bool = True) -> None:
        """Sends an answer: content, `generationComplete`, and, when it has been played, `turnComplete`.

        Cancelled, it stops at once; what was sent stands in `turn.sent`, the rest is the caller's.

        Args:
            idle: False where another turn of the same answer follows.
        """
        await asyncio.sleep(self._pace.first_delay_ms / 1000)
        faults = self._faults
        if faults.empty_turn or faults.turn_complete_reason or self.muted or not text:
            self.complete(idle=idle, reason=faults.turn_complete_reason)
            return
        self._send_nonsense()
        if self._modality == "TEXT":
            self._send_text(turn, text)
        else:
            played = await self._send_audio(turn, text)
            if played is None:
                return
            if not self._pace.fast_turn_complete:
                await _sleep_until(played)
        self.complete(idle=idle)

    def complete(self, *, idle: bool = True, reason: str | None = None) -> None:
        """Sends `turnComplete` with what belongs to it."""
        usage = self._meter.end_turn()
        if self._faults.thoughts_tokens:
            usage["thoughtsTokenCount"] = self._faults.thoughts_tokens
        if self._faults.no_turn_complete:
            return
        fields: dict[str, Any] = {"turnComplete": True}
        if self._profile.interaction_status:
            fields["interactionStatus"] = "IDLE" if idle else "IN_PROGRESS"
        if reason:
            fields["turnCompleteReason"] = reason
        message = protocol.content(**fields)
        if not self._faults.no_usage and not self._faults.separate_usage:
            message["usageMetadata"] = usage
        self._send(message)
        if self._faults.separate_usage:
            self._send({"usageMetadata": usage})

    def interrupted(self) -> None:
        """Sends what ends an interrupted turn: no `generationComplete`."""
        if self._faults.mute_after_interrupt:
            self.muted = True
        self._send(protocol.content(interrupted=True))
        self.complete()

    def _send_text(self, turn: Turn, text: str) -> None:
        for sentence in voice.sentences(text):
            self._send(protocol.content(modelTurn=protocol.model_text(sentence)))
            turn.sent += sentence
        self._meter.said("TEXT", text_tokens(text))
        self._send(protocol.content(generationComplete=True))

    async def _send_audio(self, turn: Turn, text: str) -> float | None:
        """Returns when the audio will have been played (loop time), None if a fault ended the turn early."""
        clock = asyncio.get_running_loop().time
        started = clock()
        sent_s = 0.0
        stalled = False
        held: list[tuple[bytes, str]] = []
        half = len(text) // 2
        async for pcm, words in self._pieces(text):
            turn.sent += words
            sent_s += len(pcm) / 2 / voice.RATE_HZ
            self._meter.said("AUDIO", len(pcm) / 2 / voice.RATE_HZ * AUDIO_TOKENS_PER_S)
            if self._faults.stall and not stalled and sent_s * 1000 >= self._faults.stall.at_ms:
                stalled = True
                await asyncio.sleep(self._faults.stall.for_ms / 1000)
                started += self._faults.stall.for_ms / 1000
            held.append((pcm, words))
            if sum(len(one) for one, _ in held) / 2 / voice.RATE_HZ * 1000 >= self._pace.burst_ms:
                self._send_pieces(held)
            if len(turn.sent) >= half and self._faults.premature_turn_complete:
                self.complete()
                return None
            if len(turn.sent) >= half and self._faults.phantom_interrupt:
                self.interrupted()
                return None
            await _sleep_until(started + sent_s / self._pace.speed)
        self._send_pieces(held)
        self._send(protocol.content(generationComplete=True))
        if self._faults.late_audio:
            self._send_piece(bytes(4800), "")
        return max(clock(), started + sent_s)

    def _send_pieces(self, held: list[tuple[bytes, str]]) -> None:
        for pcm, words in held:
            self._send_piece(pcm, words)
        held.clear()

    async def _pieces(self, text: str) -> AsyncIterator[tuple[bytes, str]]:
        """The answer as messages: audio and the words that begin in it, at most a chunk of audio each."""
        chunk_ms = 2 if self._faults.tiny_chunks else self._pace.chunk_ms
        chunk = max(1, chunk_ms * voice.RATE_HZ // 1000) * 2 + (1 if self._faults.odd_bytes else 0)
        first = True
        async for spoken in self._voice.speak(text):
            words = _words_by_position(spoken, first)
            first = False
            for start in range(0, len(spoken.pcm), chunk):
                end = start + chunk
                said = "".join(word for at, word in words if start <= at < end)
                pcm = spoken.pcm[start:end]
                pcm = bytes(len(pcm)) if self._faults.silent_audio else pcm
                yield pcm, "" if self._faults.reorder_transcripts else said
            if self._faults.reorder_transcripts:
                yield b"", "".join(word for _, word in words)

    def _send_piece(self, pcm: bytes, words: str) -> None:
        words = words if self._transcribe else ""
        if not pcm:
            if words:
                self._send(protocol.content(outputTranscription={"text": words}))
            return
        self._audio_messages += 1
        nth = self._audio_messages
        if self._faults.drop_nth and nth % self._faults.drop_nth == 0:
            return
        audio = protocol.model_audio(pcm)
        twice = self._faults.duplicate_nth and nth % self._faults.duplicate_nth == 0
        for _ in range(2 if twice else 1):
            if words and self._profile.bundles_fields:
                self._send(protocol.content(modelTurn=audio, outputTranscription={"text": words}))
                continue
            if words:
                self._send(protocol.content(outputTranscription={"text": words}))
            self._send(protocol.content(modelTurn=audio))

    def _send_nonsense(self) -> None:
        """The server messages that no client expects."""
        faults = self._faults
        if faults.malformed:
            self._send_raw(_MALFORMED[faults.malformed])
        if faults.huge_frame_bytes:
            self._send(
                protocol.content(modelTurn=protocol.model_audio(bytes(faults.huge_frame_bytes * 3 // 4)))
            )
        if faults.unknown_top_level:
            self._send({"somethingNew": {"value": 1}})
        if faults.unknown_field:
            self._send(
                protocol.content(somethingNew={"value": 1}, outputTranscription={"text": "", "mood": "calm"})
            )
        if faults.unknown_enum:
            self._send(protocol.content(interactionStatus="PONDERING"))
        if faults.error_object:
            self._send(
                {"error": {"code": 500, "message": "Internal error encountered.", "status": "INTERNAL"}}
            )
        if faults.wrong_type:
            self._send(protocol.content(modelTurn="text", turnComplete="maybe"))


def _words_by_position(spoken: Spoken, first: bool) -> list[tuple[int, str]]:
    """Each word with the byte of the audio where it begins, if all characters took equally long.

    Words but the answer's first have a space before them, as the service's transcript pieces do.
    """
    found: list[tuple[int, str]] = []
    position = 0
    for index, word in enumerate(spoken.text.split()):
        at = position * len(spoken.pcm) // max(1, len(spoken.text))
        found.append((min(at, max(0, len(spoken.pcm) - 1)), word if first and index == 0 else " " + word))
        position += len(word) + 1
    return found


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))
