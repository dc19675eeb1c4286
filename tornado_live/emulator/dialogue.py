"""The turns of one connection: what the user says comes in, answers go out, one after the other.

The order is the service's: a transcript of the user's words, the answer, `generationComplete`,
`turnComplete`; or, when the user goes on, `interrupted` and `turnComplete`. The transcript of every
utterance is sent, of an interrupted one too.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Callable

from tornado_live.emulator import ears, protocol, replies
from tornado_live.emulator.listening import Listening
from tornado_live.emulator.outlet import Outlet
from tornado_live.emulator.profiles import ModelProfile
from tornado_live.emulator.protocol import INVALID_ARGUMENT, ProtocolError
from tornado_live.emulator.resumption import HistoryEntry, Session
from tornado_live.emulator.scenarios import Reply, Scenario
from tornado_live.emulator.schema import ClientContent, ContextUpdate, RealtimeInput, Setup, ToolResponse
from tornado_live.emulator.speaking import Speaking
from tornado_live.emulator.tools import Tools
from tornado_live.emulator.turns import Turn
from tornado_live.emulator.usage import AUDIO_TOKENS_PER_S, VIDEO_FRAME_TOKENS, text_tokens
from tornado_live.emulator.world import World

_OTHER_LANGUAGE = "これは別の言語です。"


class Dialogue:
    """
    Args:
        generating: told True when an answer begins and False when nothing is said any more.
    """

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        profile: ModelProfile,
        setup: Setup,
        session: Session,
        outlet: Outlet,
        note: Callable[..., None],
        generating: Callable[[bool], None],
    ) -> None:
        self._world = world
        self._scenario = scenario
        self._profile = profile
        self._session = session
        self._send = outlet.send
        self._generating = generating
        detection = setup.realtime_input_config.automatic_activity_detection
        self._manual = detection.disabled
        self._interrupts = setup.realtime_input_config.activity_handling != "NO_INTERRUPTION"
        self._transcribes = setup.input_audio_transcription is not None
        self._seeding = setup.history_config.initial_history_in_client_content
        resolution = setup.generation_config.media_resolution or "MEDIA_RESOLUTION_LOW"
        self._video_tokens = VIDEO_FRAME_TOKENS.get(resolution, VIDEO_FRAME_TOKENS["MEDIA_RESOLUTION_MEDIUM"])
        self._tools = Tools(profile, setup.tools)
        self._listening = Listening(world.ears, detection, scenario, self, note)
        self._speaking = Speaking(
            profile,
            scenario,
            modality=(*setup.generation_config.response_modalities, "AUDIO")[0],
            transcribe=setup.output_audio_transcription is not None or profile.always_transcribes_output,
            voice=world.voice,
            meter=session.meter,
            send=outlet.send,
            send_raw=outlet.send_raw,
        )
        self._content: list[HistoryEntry] = []
        self._turns: asyncio.Queue[Turn] = asyncio.Queue()
        self._owed: list[Turn] = []
        self._untold = 0
        if setup.system_instruction is not None:
            session.meter.heard("TEXT", text_tokens(setup.system_instruction.text))

    @property
    def idle(self) -> bool:
        """Whether nobody speaks, nothing is owed and no function response is awaited."""
        return not self._owed and self._listening.turn is None and not self._tools.is_open

    @property
    def offset(self) -> int:
        """Samples heard so far, at 16 kHz."""
        return self._listening.offset

    async def run(self) -> None:
        """Answers the turns; ends by being cancelled."""
        while True:
            turn = await self._turns.get()
            self._generating(True)
            await self._answer(turn)
            self._owed.remove(turn)
            if not self._owed:
                self._generating(False)

    async def close(self) -> None:
        """The connection is gone: nothing is recognised any more."""
        work = [part for turn in self._owed for part in turn.recognised]
        for part in work:
            part.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._listening.close()

    # What the client sends.

    async def realtime_input(self, part: RealtimeInput) -> None:
        """
        Raises:
            ProtocolError: 1007, activity marks together with automatic detection or the other way round, or
                no PCM; 1008, input during a function call that the model cannot take.
        """
        marks = part.activity_start is not None or part.activity_end is not None
        if marks != self._manual and (marks or part.audio_stream_end):
            raise ProtocolError(1007, INVALID_ARGUMENT)
        if self._tools.is_open and not self._profile.input_during_tool_call:
            raise ProtocolError(1008, "Operation is not implemented, or supported, or enabled.")
        if part.activity_start is not None:
            self._listening.start_activity()
        for blob in (part.audio, *part.media_chunks):
            if blob is not None:
                guess = self._transcribes and self._profile.interim_transcripts and not self._untold
                seconds = await self._listening.hear(blob, guess)
                self._session.meter.heard("AUDIO", seconds * AUDIO_TOKENS_PER_S)
        if part.video is not None:
            self._session.has_video = True
            self._session.meter.heard("VIDEO", self._video_tokens)
        if part.text is not None:
            self._written(part.text)
        if part.activity_end is not None or (
            part.audio_stream_end and self._profile.audio_stream_end_ends_turn
        ):
            self._listening.end_activity()

    def client_content(self, part: ClientContent) -> None:
        self._interrupt()
        for content in part.turns:
            self._content.append(HistoryEntry("model" if content.role == "model" else "user", content.text))
            self._session.meter.heard("TEXT", text_tokens(content.text))
        if not part.turn_complete:
            return
        said, self._content = self._content, []
        if self._seeding:
            self._seeding = False
            self._session.history += said
            return
        asked = len(said)
        while asked and said[asked - 1].role == "user":
            asked -= 1
        self._session.history += said[:asked]
        self._owe(Turn(written=" ".join(entry.text for entry in said[asked:])))

    def tool_response(self, part: ToolResponse) -> None:
        """
        Raises:
            ProtocolError: 1007, no call has this id, or the model takes no `scheduling`.
        """
        for response in part.function_responses:
            request = self._tools.respond(response)
            if request is None or request.blocking:
                continue
            if response.scheduling == "SILENT":
                self._session.history.append(HistoryEntry("user", request.outcome()))
                continue
            if response.scheduling == "INTERRUPT":
                self._interrupt()
            self._owe(Turn(answer=request.outcome()))

    def context_update(self, part: ContextUpdate) -> None:
        """
        Raises:
            ProtocolError: 1007, the model does not take these functions.
        """
        if part.tools is not None:
            self._tools.declare(part.tools.tools)
        if part.system_instruction is not None:
            self._session.meter.heard("TEXT", text_tokens(part.system_instruction.text))

    # What the ears hear.

    def turn_started(self, turn: Turn, offset: int) -> None:
        if self._scenario.model.voice_activity:
            self._send(
                {"voiceActivity": {"type": "ACTIVITY_START", "audioOffset": f"{offset / 16_000:.3f}s"}}
            )
        if self._scenario.stream.idle_interrupt and not self._owed:
            self._send(protocol.content(interrupted=True))
        if self._interrupts:
            self._interrupt()

    def turn_ended(self, turn: Turn, offset: int) -> None:
        if self._scenario.model.voice_activity:
            self._send({"voiceActivity": {"type": "ACTIVITY_END", "audioOffset": f"{offset / 16_000:.3f}s"}})
        self._untold += 1
        self._owe(turn)

    def guessed(self, turn: Turn, text: str) -> None:
        if not self._untold:
            self._send(protocol.content(interimInputTranscription={"text": text}))

    # Answers.

    def _written(self, text: str) -> None:
        self._session.meter.heard("TEXT", text_tokens(text))
        self._interrupt()
        self._owe(Turn(written=text.strip()))

    def _owe(self, turn: Turn) -> None:
        self._owed.append(turn)
        self._turns.put_nowait(turn)

    def _interrupt(self) -> None:
        polite_s = self._scenario.model.polite_interrupt_ms / 1000
        for turn in self._owed:
            if polite_s:
                asyncio.get_running_loop().call_later(polite_s, turn.interrupt)
            else:
                turn.interrupt()

    async def _answer(self, turn: Turn) -> None:
        text = await turn.user_text()
        if turn.spoken:
            self._untold -= 1
            self._tell_input(text)
        if not turn.interrupted:
            turn.speaking = asyncio.create_task(self._reply(turn, text))
            try:
                await asyncio.wait({turn.speaking})
            finally:
                turn.speaking.cancel()
            if not turn.speaking.cancelled():
                turn.speaking.result()
        if text:
            self._session.history.append(HistoryEntry("user", text))
        if turn.sent:
            self._session.history.append(HistoryEntry("model", turn.sent))
        if turn.interrupted and (turn.speaking is None or turn.speaking.cancelled()):
            cancelled = self._tools.cancel()
            if cancelled:
                self._send(protocol.tool_call_cancellation(cancelled))
            self._speaking.interrupted()

    def _tell_input(self, text: str) -> None:
        if not self._transcribes or not text:
            return
        if self._scenario.stream.wrong_language_transcript:
            text = _OTHER_LANGUAGE
        pieces = [text]
        if self._profile.pieces_of_input:
            pieces = [word if index == 0 else " " + word for index, word in enumerate(text.split())]
        for _ in range(2 if self._scenario.stream.duplicate_input_transcript else 1):
            for piece in pieces:
                self._send(protocol.content(inputTranscription={"text": piece}))

    async def _reply(self, turn: Turn, text: str) -> None:
        if turn.spoken and not text:
            no_ears = ears.NO_EARS if isinstance(self._world.ears, ears.NoEars) else ""
            await self._speaking.say(turn, no_ears)
            return
        scripted = self._scripted(text)
        for filler in scripted.fillers:
            await self._speaking.say(turn, filler, idle=False)
        calls = scripted.tool_calls or (self._tools.calls_for(text) if turn.answer is None else ())
        answer = turn.answer or scripted.text
        if calls:
            request = self._tools.ask(calls)
            self._send(protocol.tool_call(request.calls))
            if not request.blocking:
                await self._speaking.say(turn, "One moment.", idle=not self._profile.fillers)
                return
            await request.done.wait()
            answer = answer or request.outcome()
        await self._speaking.say(turn, answer or self._by_rule(text))

    def _scripted(self, text: str) -> Reply:
        for reply in self._scenario.script.replies:
            if reply.when is None or re.search(reply.when, text, re.I):
                return reply
        return Reply()

    def _by_rule(self, text: str) -> str:
        before = self._session.user_turns
        if not text and before:
            # The client asks for an answer to what is there already.
            *before, text = before
        return replies.reply_to(text, before, datetime.datetime.now().astimezone())
