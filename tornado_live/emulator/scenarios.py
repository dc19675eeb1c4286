"""Scenarios: what a connection is scripted to hear and say, and everything that can go wrong on it.

A scenario is a mapping (a YAML file, an object of the control API); every key may be left out. Times in
milliseconds and seconds are real ones; only `model.lifetime_s` and `model.go_away_s` are divided by the
time scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Knobs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Close(Knobs):
    code: int = Field(default=1011, ge=1000, le=4999)
    reason: str = "Internal error occurred."


class Upgrade(Knobs):
    """The HTTP request that opens the connection.

    Attributes:
        http_status: refuses with this status.
        delay_ms: answers so much later.
        max_connections: refuses with 429 while so many are open.
        untrusted_certificate: TLS fails. Counts only in the scenario that the emulator is started with.
    """

    http_status: int | None = Field(default=None, ge=400, le=599)
    delay_ms: int = 0
    max_connections: int | None = None
    untrusted_certificate: bool = False


class SetUp(Knobs):
    """The answer to `setup`.

    Attributes:
        on: applies to every connection, or only to `fresh` or `resumed` ones.
        delay_ms: `setupComplete` comes so much later.
        never: it does not come.
        wrong_first: a goAway comes first; the SDK takes it for `setupComplete` and loses it.
        close: closes instead.
    """

    on: Literal["any", "fresh", "resumed"] = "any"
    delay_ms: int = 0
    never: bool = False
    wrong_first: bool = False
    close: Close | None = None


class FunctionCall(Knobs):
    name: str
    args: dict[str, Any] = {}


class Reply(Knobs):
    """
    Attributes:
        when: a regular expression that the user's words must match, in any case; None matches all.
        text: what is said; None leaves it to the rules.
        fillers: said before, as turns of their own with `IN_PROGRESS` (extended thinking).
        tool_calls: asked for before the text is said.
    """

    when: str | None = None
    text: str | None = None
    fillers: tuple[str, ...] = ()
    tool_calls: tuple[FunctionCall, ...] = ()


class Script(Knobs):
    """
    Attributes:
        utterances: what scripted ears hear, one after the other; the last is repeated.
        replies: the first that matches is taken.
    """

    utterances: tuple[str, ...] = ()
    replies: tuple[Reply, ...] = ()


class Model(Knobs):
    """Changes to the model's profile.

    Attributes:
        retired_models: accepts models that Google has shut down.
        lifetime_s, expiry: when a connection is closed, and how.
        go_away_s: so long before, it is told to go; 0: it is not.
        go_away_then_ignore: the connection is told to go and then never closed.
        polite_interrupt_ms: goes on speaking for so long when interrupted.
        voice_activity: sends `voiceActivity` where the user starts and stops.
        session_limits: ends sessions without compression after 15 minutes (2 with video) and at a full
            context.
    """

    retired_models: bool = False
    lifetime_s: float | None = Field(default=None, gt=0)
    go_away_s: float | None = Field(default=None, ge=0)
    expiry: Close | None = None
    go_away_then_ignore: bool = False
    polite_interrupt_ms: int = 0
    voice_activity: bool = False
    session_limits: bool = True


class Pace(Knobs):
    """How speech is sent.

    Attributes:
        chunk_ms: of audio in a message.
        speed: audio is sent so many times faster than it plays.
        first_delay_ms: thinking before the first word.
        fast_turn_complete: `turnComplete` does not wait until the speech would have been played.
        burst_ms: audio is held back and sent so much at a time.
    """

    chunk_ms: int = Field(default=100, ge=1)
    speed: float = Field(default=3.0, gt=0)
    first_delay_ms: int = 0
    fast_turn_complete: bool = False
    burst_ms: int = 0


class Stall(Knobs):
    """Nothing is sent for `for_ms`, from `at_ms` after the first audio of a reply on."""

    at_ms: int
    for_ms: int


class Stream(Knobs):
    """What goes wrong with server messages.

    Attributes:
        delay_ms, jitter_ms: every message comes so much later, evenly spread up to the jitter; the order
            stays.
        stall: a reply stops in mid-sentence for a while.
        drop_nth, duplicate_nth: every nth audio message is lost, comes twice.
        reorder_transcripts: output transcripts come after all audio of the sentence.
        tiny_chunks: audio messages of 2 ms.
        huge_frame_bytes: one message of this size comes before the first audio.
        odd_bytes: audio is cut in the middle of samples.
        text_frames: messages come in text frames, not binary ones.
        malformed: before the first audio of a reply: broken JSON, broken UTF-8, an empty frame, `{}`.
        unknown_top_level, unknown_field, unknown_enum, error_object, wrong_type: so does a message of that
            kind.
        no_turn_complete: `turnComplete` never comes.
        empty_turn: `turnComplete` comes without any content.
        premature_turn_complete: it comes in the middle of the reply, which then stops.
        phantom_interrupt: `interrupted` comes in mid-reply though nobody spoke, and the reply is gone.
        idle_interrupt: `interrupted` comes when the user speaks though no answer is under way.
        mute_after_interrupt: after the first interruption replies have no content.
        silent_audio: the audio is all but zeros.
        turn_complete_reason: sent with `turnComplete` instead of any content.
        ignore_short_ms: utterances with less speech than this are not noticed.
        duplicate_input_transcript: input transcripts come twice.
        wrong_language_transcript: input transcripts come in another script.
        late_audio: more audio comes after `generationComplete`.
        no_usage: `usageMetadata` does not come.
        separate_usage: it comes as a message of its own after `turnComplete`.
        thoughts_tokens: it counts so many thought tokens.
    """

    delay_ms: int = 0
    jitter_ms: int = 0
    stall: Stall | None = None
    drop_nth: int | None = Field(default=None, ge=1)
    duplicate_nth: int | None = Field(default=None, ge=1)
    reorder_transcripts: bool = False
    tiny_chunks: bool = False
    huge_frame_bytes: int | None = None
    odd_bytes: bool = False
    text_frames: bool = False
    malformed: Literal["json", "utf8", "empty", "object"] | None = None
    unknown_top_level: bool = False
    unknown_field: bool = False
    unknown_enum: bool = False
    error_object: bool = False
    wrong_type: bool = False
    no_turn_complete: bool = False
    empty_turn: bool = False
    premature_turn_complete: bool = False
    phantom_interrupt: bool = False
    idle_interrupt: bool = False
    mute_after_interrupt: bool = False
    silent_audio: bool = False
    turn_complete_reason: str | None = None
    ignore_short_ms: int = 0
    duplicate_input_transcript: bool = False
    wrong_language_transcript: bool = False
    late_audio: bool = False
    no_usage: bool = False
    separate_usage: bool = False
    thoughts_tokens: int = 0


class Moment(Knobs):
    """When something happens: so long after `setupComplete`, or with the nth message of the client (`setup`
    is 1) or
    of the server, whichever comes first."""

    after_ms: int | None = None
    client_message: int | None = None
    server_message: int | None = None


class CloseAt(Moment, Close):
    pass


class Connection(Knobs):
    """What goes wrong with the connection.

    Attributes:
        close_at: it is closed.
        abort_at: it is cut without a close frame.
        half_open_at: the server reads nothing and writes nothing any more, pongs neither.
        read_bytes_per_s: the server reads no faster than this.
        ignore_pings: pings get no pong.
    """

    close_at: CloseAt | None = None
    abort_at: Moment | None = None
    half_open_at: Moment | None = None
    read_bytes_per_s: int | None = Field(default=None, ge=1)
    ignore_pings: bool = False


class Resumption(Knobs):
    """
    Attributes:
        interval_s: a new handle comes so often while nobody speaks; 0: only after set-up and turns.
        never: no handle ever comes.
        reject: a handle is refused this way though it is good.
        unknown_handle: how a bad handle is refused.
        while_open: `refuse`: a session whose old connection is still open cannot be resumed (1011).
    """

    interval_s: float = 1.0
    never: bool = False
    reject: Close | None = None
    unknown_handle: Close = Close(code=1008, reason="BidiGenerateContent session not found")
    while_open: Literal["allow", "refuse"] = "allow"


class Scenario(Knobs):
    """
    Attributes:
        connections: the numbers of the connections (from 1, counted per scenario) that it applies to; None:
            all. The others are healthy.
    """

    description: str = ""
    connections: tuple[int, ...] | None = None
    upgrade: Upgrade = Upgrade()
    setup: SetUp = SetUp()
    script: Script = Script()
    model: Model = Model()
    pace: Pace = Pace()
    stream: Stream = Stream()
    connection: Connection = Connection()
    resumption: Resumption = Resumption()

    def for_connection(self, number: int) -> Scenario:
        """What applies to the scenario's nth connection: all of it, or only its script."""
        if self.connections is None or number in self.connections:
            return self
        return Scenario(script=self.script)


class ScenarioError(ValueError):
    """The scenario cannot be used; the text names every wrong key."""


def load_scenario(mapping: Mapping[str, Any]) -> Scenario:
    """
    Raises:
        ScenarioError: unknown keys or wrong values.
    """
    try:
        return Scenario.model_validate(mapping)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ScenarioError("; ".join(problems)) from error


ReadYaml = Callable[[Path], Mapping[str, Any]]


def builtin_scenarios(read_yaml: ReadYaml) -> dict[str, Mapping[str, Any]]:
    """The scenarios that come with the emulator, by name."""
    folder = Path(__file__).parent / "scenarios"
    return {file.stem: read_yaml(file) for file in sorted(folder.glob("*.yaml"))}


def find_scenario(
    name: str, builtin: Mapping[str, Mapping[str, Any]], read_yaml: ReadYaml
) -> Mapping[str, Any]:
    """The built-in scenario of that name, or what is in the file of that path.

    Raises:
        ScenarioError: there is neither; the text says what there is.
    """
    if name in builtin:
        return builtin[name]
    if Path(name).exists():
        return read_yaml(Path(name))
    close = get_close_matches(name, builtin, 1)
    meant = f"; did you mean {close[0]}?" if close else "."
    raise ScenarioError(
        f"{name} is neither a file nor a built-in scenario{meant} The built-in ones are {', '.join(builtin)}."
    )
