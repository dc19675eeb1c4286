"""The `tornado-live` command. Each command only calls a function elsewhere, and imports it only then."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from tornado_live.audio import StreamFormat
    from tornado_live.plugins import CodecRegistry

app = typer.Typer(
    help="A server between web frontends and Google's Gemini Live API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

keys_app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


def _say_version(wanted: bool) -> None:
    if wanted:
        from tornado_live import __version__

        print(f"tornado-live {__version__}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A server between web frontends and Google's Gemini Live API."""


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="YAML file; otherwise TORNADO_LIVE_CONFIG, otherwise development.yaml."
    ),
]


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Run the server. Without a Google key it answers with its offline demo engine."""
    from tornado_live.settings import load_settings

    flags = {"host": host, "port": port}
    given = {name: value for name, value in flags.items() if value is not None}
    settings = load_settings(config, {"server": given})

    from tornado_live.app import LiveServer, run

    def say_where(server: LiveServer) -> None:
        scheme = "https" if settings.server.tls else "http"
        address = f"{scheme}://{settings.server.host}:{server.port}/"
        print(f"tornado-live is at {address}; {server.services.engine} answers", flush=True)

    run(settings, say_where)


@app.command()
def emulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 3443,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="YAML file of faults and scripts, or the name of a built-in scenario; a wrong one lists all."
        ),
    ] = None,
    ears: Annotated[str, typer.Option(help="What recognises speech: auto, real, scripted or none.")] = "auto",
    voice: Annotated[str, typer.Option(help="What speaks: auto, espeak or tone.")] = "auto",
    time_scale: Annotated[
        float, typer.Option(help="Lifetimes and deadlines run so many times faster.", min=0.001)
    ] = 1.0,
    journal: Annotated[Path | None, typer.Option(help="File to write every frame to, as JSON lines.")] = None,
) -> None:
    """Run the emulator of Gemini Live alone."""
    from tornado_live.emulator import Emulator, EmulatorOptions
    from tornado_live.emulator.main import run
    from tornado_live.emulator.options import EARS, VOICES
    from tornado_live.emulator.scenarios import ScenarioError, builtin_scenarios, find_scenario
    from tornado_live.settings import read_yaml

    if ears not in EARS:
        raise typer.BadParameter(f"choose {', '.join(EARS)}.", param_hint="--ears")
    if voice not in VOICES:
        raise typer.BadParameter(f"choose {', '.join(VOICES)}.", param_hint="--voice")
    builtin = builtin_scenarios(read_yaml)
    try:
        faults = find_scenario(scenario, builtin, read_yaml) if scenario else None
    except ScenarioError as error:
        _fail(str(error))

    def say_where(emulator: Emulator) -> None:
        print(
            f"The emulator ({emulator.engine}) answers at {emulator.url}; trust {emulator.ca_file}",
            flush=True,
        )

    options = EmulatorOptions(
        host,
        port,
        ears=ears,  # type: ignore[arg-type]
        voice=voice,  # type: ignore[arg-type]
        scenario=faults,
        scenarios=builtin,
        journal_path=str(journal) if journal else None,
        time_scale=time_scale,
    )
    try:
        run(options, say_where)
    except ValueError as error:
        _fail(str(error))


@app.command()
def transcribe(
    file: Annotated[Path, typer.Argument(help="A recording; - is standard input.")],
    url: Annotated[str, typer.Option(help="The running server.")] = "http://localhost:3000",
    api_key: Annotated[
        str | None, typer.Option(help="For a server that wants one.", envvar="TORNADO_LIVE_API_KEY")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the server takes it, not in real time.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print text and exchanges as a JSON object.")
    ] = False,
    format: Annotated[
        str | None, typer.Option(help="Only needed for raw samples: pcm. Otherwise the bytes say it.")
    ] = None,
    sample_rate: Annotated[int, typer.Option(help="Of raw samples, a second.", min=1)] = 16_000,
    channels: Annotated[int, typer.Option(help="Of raw samples.", min=1)] = 1,
) -> None:
    """Stream a recording to a running server and print what was said.

    On a terminal the text appears while it is recognised. The JSON object has `text`, `session_id`,
    `model`, `audio_s` (seconds sent) and `exchanges`, each with `turn_id`, `text`, `reply`, `final`.
    """
    from tornado_live.client import ClientError
    from tornado_live.client.meter import DecodingMeter
    from tornado_live.client.terminal import transcribe_command
    from tornado_live.plugins import CodecRegistry

    if file != Path("-") and not file.is_file():
        raise typer.BadParameter(f"{file} is not a file.", param_hint="FILE")
    codecs = CodecRegistry.load()
    declared = _declared(codecs, file, format, sample_rate, channels)
    try:
        transcribe_command(
            str(file),
            {
                "response_modality": "text",
                "format": declared.label,
                "sample_rate": sample_rate,
                "channels": channels,
            },
            DecodingMeter(codecs, declared),
            url=url,
            api_key=api_key,
            fast=fast,
            as_json=as_json,
        )
    except ClientError as error:
        _fail(error.message)


@app.command()
def check_config(
    file: Annotated[Path, typer.Argument(help="YAML file.", exists=True, dir_okay=False)],
) -> None:
    """Say whether a server could start with these settings, and all that is wrong with them."""
    from tornado_live.settings import check_config

    problems = check_config(file)
    if problems:
        _fail(*problems)
    print(f"{file}: no problem found")


@app.command()
def show_config(config: ConfigOption = None) -> None:
    """Print all settings as they come out of file, environment and defaults; secrets are masked."""
    from tornado_live.settings import load_with_origins, show_settings

    print(show_settings(*load_with_origins(config)), end="")


@app.command()
def codecs(config: ConfigOption = None) -> None:
    """List the kinds of audio that the server takes, and where each codec comes from."""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "source", "MIME types", "engine", box=None, pad_edge=False)
    for loaded in _codecs(config).codecs:
        codec = loaded.codec
        table.add_row(codec.name, loaded.source, ", ".join(codec.mime_types), codec.engine)
    Console().print(table)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A recording; - is standard input.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The WAV file to write; - is standard output.")
    ],
    format: Annotated[
        str | None, typer.Option(help="Only needed for raw samples: pcm. Otherwise the bytes say it.")
    ] = None,
    sample_rate: Annotated[int, typer.Option(help="Of raw samples, a second.", min=1)] = 16_000,
    channels: Annotated[int, typer.Option(help="Of raw samples.", min=1)] = 1,
    config: ConfigOption = None,
) -> None:
    """Decode a recording to a WAV file, 16 kHz mono, with the decoders that the server uses."""
    from rich.console import Console
    from rich.progress import Progress

    from tornado_live.convert import convert
    from tornado_live.errors import LiveError

    codecs = _codecs(config)
    declared = _declared(codecs, source, format, sample_rate, channels)
    size = source.stat().st_size if source != Path("-") else None
    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task(source.name, total=size)
        try:
            converted = convert(
                str(source),
                str(target),
                codecs,
                lambda read: progress.advance(task, read),
                declared=declared,
            )
        except LiveError as error:
            _fail(error.message)
    made = f"{converted.seconds:.2f} s of {converted.codec}"
    if target == Path("-"):
        print(made, file=sys.stderr)
    else:
        print(f"{target}: {made}")


def _codecs(config: Path | None) -> CodecRegistry:
    """The codecs that a server with these settings loads."""
    from tornado_live.plugins import CodecRegistry
    from tornado_live.settings import load_settings

    settings = load_settings(config).codecs
    return CodecRegistry.load(settings.disabled, settings.plugins_dir)


def _declared(
    codecs: CodecRegistry, file: Path, format: str | None, sample_rate: int, channels: int
) -> StreamFormat:
    """What is said of a recording: by the command line, where it says nothing by the file's ending."""
    from tornado_live.audio import StreamFormat
    from tornado_live.plugins import names

    declared = StreamFormat(format or file.suffix.removeprefix(".").lower(), sample_rate, channels)
    known = [loaded.codec for loaded in codecs.codecs]
    if format is not None and not any(names(codec, declared) for codec in known):
        labels = sorted({label for codec in known for label in (codec.name, *codec.labels)})
        raise typer.BadParameter(
            f"{format!r} is not known; write a MIME type or one of {', '.join(labels)}.",
            param_hint="--format",
        )
    return declared


KeysFile = Annotated[
    Path | None, typer.Option("--file", help="The keys file; otherwise auth.keys_file of the settings.")
]


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who holds it; the name owns the sessions.")],
    file: KeysFile = None,
    config: ConfigOption = None,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="It is built into a public page: lists nothing, limited per address."),
    ] = False,
    scope: Annotated[list[str] | None, typer.Option(help="instructions:custom")] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER, as under `limits` of the settings.")
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(help="The day it ends, UTC.", formats=["%Y-%m-%d"])
    ] = None,
) -> None:
    """Make a key, and print it: it is told only now."""
    from tornado_live.access.keys import create_key

    limits = dict(_limit(each) for each in limit or ())
    expires_at = expires.replace(tzinfo=UTC) if expires is not None else None
    scopes: Any = tuple(scope or ())
    print(
        create_key(
            _keys_file(file, config), name, scopes=scopes, shared=shared, expires_at=expires_at, limits=limits
        )
    )


@keys_app.command("list")
def list_keys(file: KeysFile = None, config: ConfigOption = None) -> None:
    """List names and states of the keys; the keys themselves nobody knows."""
    from rich.console import Console
    from rich.table import Table

    from tornado_live.access.keys import describe_keys

    table = Table(
        "name", "state", "created", "expires", "shared", "scopes", "limits", box=None, pad_edge=False
    )
    for row in describe_keys(_keys_file(file, config)):
        table.add_row(*row)
    Console().print(table)


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    file: KeysFile = None,
    config: ConfigOption = None,
) -> None:
    """Make the key of that name worthless, in running servers too."""
    from tornado_live.access.keys import revoke_key

    revoke_key(_keys_file(file, config), name)
    print(f"The key of {name} is revoked.")


def _limit(text: str) -> tuple[str, str]:
    name, equals, number = text.partition("=")
    if not equals:
        _fail(f"--limit {text}: write NAME=NUMBER")
    return name, number


def _keys_file(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    from tornado_live.settings import load_settings

    configured = load_settings(config).auth.keys_file
    if configured is None:
        _fail("say --file, or set auth.keys_file in the settings")
    return Path(configured)


def _fail(*sentences: str) -> NoReturn:
    for sentence in sentences:
        print(f"tornado-live: {sentence}", file=sys.stderr)
    raise typer.Exit(1)


def main() -> None:
    """The console script. Exit code 1: it failed; 2: the command line is wrong."""
    from tornado_live.errors import SettingsError

    app.add_typer(keys_app, name="keys")
    try:
        app()
    except SettingsError as error:
        for problem in error.problems:
            print(f"tornado-live: {problem}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"tornado-live: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
