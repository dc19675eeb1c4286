"""`tornado-live transcribe`: a transcript that grows on the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from tornado_live.client.base import ClientError, StartOptions
from tornado_live.client.transcribe import AudioMeter, Exchange, Transcript, Update, transcribe
from tornado_live.client.ws import LiveClient

_SHOWN_EXCHANGES = 8


def transcribe_command(
    source: str,
    options: StartOptions,
    meter: AudioMeter,
    *,
    url: str,
    api_key: str | None,
    fast: bool,
    as_json: bool,
) -> None:
    """Transcribes a file, or standard input for `-`, and prints what was said on standard output.

    Interim text and the progress bar go to standard error, and only to a terminal. What was
    recognised before an error, or before Ctrl-C, is printed all the same, but not as JSON.

    Raises:
        ClientError: the server refused or cannot be reached; `nothing_piped` for `-` on a terminal.
        OSError: the file cannot be read.
    """
    heard: tuple[Exchange, ...] = ()

    async def job(recording: io.BufferedIOBase, show: Callable[[Update], None]) -> Transcript:
        def on_update(update: Update) -> None:
            nonlocal heard
            heard = update.exchanges
            show(update)

        async with await LiveClient.connect(url, api_key) as live:
            return await transcribe(recording, live, options, meter, fast=fast, on_update=on_update)

    try:
        with _open(source) as (recording, size_bytes), _display(size_bytes) as show:
            transcript = asyncio.run(job(recording, show))
    except (ClientError, KeyboardInterrupt):
        if heard and not as_json:
            print(*(exchange.text for exchange in heard))
        raise
    if as_json:
        print(json.dumps(transcript.as_json(), ensure_ascii=False, indent=2))
    else:
        print(transcript.text)
    if not transcript.text:
        print("tornado-live: no speech was recognised", file=sys.stderr)


@contextlib.contextmanager
def _open(source: str) -> Iterator[tuple[io.BufferedIOBase, int | None]]:
    """The recording and its size in bytes; None for a pipe."""
    if source == "-" and sys.stdin.isatty():
        raise ClientError("nothing_piped", "Nothing is piped in; give a file, or pipe a recording into -.")
    with open(sys.stdin.fileno() if source == "-" else source, "rb", closefd=source != "-") as file:
        yield file, _size(file)


def _size(file: io.BufferedIOBase) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextlib.contextmanager
def _display(size_bytes: int | None) -> Iterator[Callable[[Update], None]]:
    """Shows each update in place; everything disappears at the end. Silent without a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda update: None
        return
    bar = Progress(BarColumn(), TextColumn("{task.description}"), console=console)
    task = bar.add_task("connecting", total=size_bytes)
    with Live(bar, console=console, transient=True) as live:

        def show(update: Update) -> None:
            bar.update(task, completed=update.sent_bytes, description=_sent(update))
            live.update(Group(_texts(update.exchanges), bar))

        yield show


def _sent(update: Update) -> str:
    minutes, seconds = divmod(int(update.audio_s), 60)
    return f"{minutes}:{seconds:02} · {decimal(update.sent_bytes)} sent"


def _texts(exchanges: tuple[Exchange, ...]) -> Text:
    """The newest exchanges, what may still change in grey."""
    text = Text()
    for exchange in exchanges[-_SHOWN_EXCHANGES:]:
        style = "" if exchange.final else "bright_black"
        text.append(exchange.text + "\n", style)
        if exchange.reply:
            text.append("  " + exchange.reply + "\n", "cyan" if exchange.final else "bright_black")
    return text
