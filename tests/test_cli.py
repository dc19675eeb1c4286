"""The `tornado-live` command as a process: what it prints, where, and its exit code."""

from __future__ import annotations

import asyncio
import io
import json
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import wave
from pathlib import Path

import pytest
from fake_live_server import Script, make_app

DATA = Path(__file__).parent / "data"
COMMAND = Path(sys.executable).with_name("tornado-live")


def command(*arguments: str, given: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, *arguments],
        input=given,
        capture_output=True,
        timeout=30,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **environment},
    )


def one_sentence(stderr: bytes) -> str:
    lines = stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def app(script):
    return make_app(script)


def test_every_command_is_listed():
    output = command("--help").stdout.decode()
    for name in ("serve", "emulate", "transcribe", "check-config", "show-config", "codecs"):
        assert re.search(rf"\b{name}\b", output)


def test_help_loads_nothing_heavy():
    code = "import sys, tornado_live.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split()
    assert not {b"tornado.web", b"pydantic", b"av", b"google.genai", b"numpy"} & set(modules)


def test_a_wrong_command_line_exits_with_2():
    assert command("transcribe", "--no-such-flag").returncode == 2
    assert command("transcribe", "no-such-file.wav").returncode == 2
    assert command("no-such-command").returncode == 2


def test_codecs_tells_name_source_mime_types_and_engine():
    lines = command("codecs").stdout.decode().splitlines()
    webm = next(line for line in lines if line.startswith("webm"))
    assert "tornado-live" in webm
    assert "audio/webm" in webm
    assert "libopus" in webm


def test_check_config_names_every_problem(tmp_path):
    file = tmp_path / "live.yaml"
    file.write_text("server:\n  prot: 3000\nsessions:\n  duration: soon\n")
    checked = command("check-config", str(file))
    assert checked.returncode == 1
    problems = checked.stderr.decode().splitlines()
    assert any("prot" in problem and "port" in problem for problem in problems)
    assert any("duration" in problem for problem in problems)
    assert checked.stdout == b""


def test_check_config_passes_what_is_right(tmp_path):
    file = tmp_path / "live.yaml"
    file.write_text("server:\n  port: 3456\n")
    checked = command("check-config", str(file))
    assert checked.returncode == 0, checked.stderr
    assert "no problem" in checked.stdout.decode()


def test_show_config_masks_secrets(tmp_path):
    shown = command("show-config", GOOGLE_API_KEY="AIza-canary")
    assert shown.returncode == 0, shown.stderr
    assert b"canary" not in shown.stdout + shown.stderr
    assert b"port: 3000" in shown.stdout


def test_settings_that_cannot_be_used_are_told_without_a_traceback(tmp_path):
    file = tmp_path / "live.yaml"
    file.write_text("server: {port: 70000}\n")
    started = command("serve", "--config", str(file))
    assert started.returncode == 1
    assert "port" in one_sentence(started.stderr)


@pytest.mark.gen_test(timeout=30)
async def test_transcribe_prints_the_text_alone_on_standard_output(http_server, base_url, script):
    audio = (DATA / "recordings" / "webm_opus_250ms" / "000.bin").read_bytes()
    done = await asyncio.to_thread(command, "transcribe", "-", "--url", base_url, "--fast", given=audio)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{len(audio)} bytes\n"
    assert done.stderr == b""
    assert bytes(script.audio) == audio


@pytest.mark.gen_test(timeout=30)
async def test_transcribe_json_is_one_object(http_server, base_url):
    done = await asyncio.to_thread(
        command,
        "transcribe",
        "-",
        "--url",
        base_url,
        "--fast",
        "--json",
        "--format",
        "pcm",
        given=bytes(3200),
    )
    assert json.loads(done.stdout) == {
        "text": "3200 bytes",
        "session_id": "session_1",
        "model": "model-b",
        "audio_s": 0.1,
        "exchanges": [{"turn_id": "t1", "text": "3200 bytes", "reply": "You spoke.", "final": True}],
    }


@pytest.mark.gen_test(timeout=30)
async def test_transcribe_sends_its_key_from_the_environment(http_server, base_url, script):
    script.key = "ak_right"
    refused = await asyncio.to_thread(
        command, "transcribe", "-", "--url", base_url, TORNADO_LIVE_API_KEY="ak_wrong"
    )
    assert refused.returncode == 1
    assert one_sentence(refused.stderr) == "tornado-live: The key or token is not valid."
    accepted = await asyncio.to_thread(
        command, "transcribe", "-", "--url", base_url, "--fast", given=b"x", TORNADO_LIVE_API_KEY="ak_right"
    )
    assert accepted.stdout == b"1 bytes\n"


@pytest.mark.gen_test(timeout=30)
async def test_what_was_recognised_before_an_error_is_not_thrown_away(http_server, base_url, script):
    script.utterances = [3200]
    script.cut_after_bytes = 9600
    done = await asyncio.to_thread(
        command, "transcribe", "-", "--url", base_url, "--format", "pcm", given=bytes(64_000)
    )
    assert done.returncode == 1
    assert done.stdout.decode().startswith("4096 bytes")
    assert one_sentence(done.stderr) == "tornado-live: The connection to the server is gone."


@pytest.fixture
def terminal():
    """Both ends of a terminal."""
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen, open(theirs, "wb", buffering=0) as device:
        yield screen, device


@pytest.mark.gen_test(timeout=30)
async def test_a_terminal_shows_interim_text_and_progress(http_server, base_url, terminal):
    screen, device = terminal
    arguments = ["transcribe", "-", "--url", base_url, "--format", "pcm"]
    done = await asyncio.to_thread(
        subprocess.run,
        [COMMAND, *arguments],
        input=bytes(32_000),
        stdout=subprocess.PIPE,
        stderr=device,
        timeout=30,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", "TERM": "xterm"},
    )
    shown = screen.read(1_000_000).decode()
    assert done.stdout == b"32000 bytes\n"
    assert "bytes so far" in shown
    assert "0:01 · 32.0 kB sent" in shown


@pytest.fixture
def start():
    """Starts a command that runs until it is stopped."""
    processes = []

    def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [COMMAND, *arguments],
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={"PATH": "/usr/bin:/bin"},
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_where_it_is_and_ends_cleanly(start, tmp_path, number):
    process = start("serve", "--host", "127.0.0.1", "--port", "0", cwd=tmp_path)
    line = process.stdout.readline()
    address = re.match(r"tornado-live is at (http://127\.0\.0\.1:\d+/); offline demo engine .*answers", line)[
        1
    ]
    with urllib.request.urlopen(address, timeout=10) as page:
        assert b"<title>tornado-live</title>" in page.read()
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serve", "emulate"])
def test_a_port_that_is_taken_is_told_and_ends_the_process(start, tmp_path, taken_port, name):
    process = start(name, "--host", "127.0.0.1", "--port", taken_port, cwd=tmp_path)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Address already in use" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_emulate_says_where_it_is_and_ends_cleanly(start, tmp_path):
    process = start("emulate", "--port", "0", cwd=tmp_path)
    line = process.stdout.readline()
    ca_file = re.match(r"The emulator \(.+\) answers at https://127\.0\.0\.1:\d+; trust (\S+)", line)[1]
    assert Path(ca_file).is_file()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_emulate_refuses_a_scenario_with_a_wrong_key(tmp_path):
    file = tmp_path / "faults.yaml"
    file.write_text("no_such_fault: 1\n")
    refused = command("emulate", "--scenario", str(file))
    assert refused.returncode == 1
    assert "no_such_fault" in one_sentence(refused.stderr)


def test_serve_refuses_a_scenario_with_a_wrong_key(tmp_path):
    file = tmp_path / "faults.yaml"
    file.write_text("no_such_fault: 1\n")
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"emulator: {{scenario: {file}}}\n")
    refused = command("serve", "--config", str(settings))
    assert refused.returncode == 1
    assert "no_such_fault" in one_sentence(refused.stderr)


@pytest.mark.parametrize(("name", "hint"), [("setup-lat", "did you mean setup-late?"), ("xyz", "stall")])
def test_emulate_tells_which_scenarios_there_are(name, hint):
    refused = command("emulate", "--scenario", name)
    assert refused.returncode == 1
    told = one_sentence(refused.stderr)
    assert hint in told
    assert "setup-late, setup-never, " in told


@pytest.mark.parametrize("arguments", [("transcribe", "-"), ("convert", "-", "out.wav")])
def test_a_format_that_is_not_known_is_refused_with_those_that_are(arguments):
    refused = command(*arguments, "--format", "xyz")
    assert refused.returncode == 2
    told = refused.stderr.decode()
    assert "'xyz' is not known" in told
    for label in ("pcm", "mulaw", "webm", "mp3"):
        assert label in told


@pytest.mark.parametrize("label", ["mulaw", "WebM", "audio/webm;codecs=opus"])
def test_a_format_may_be_a_label_or_a_mime_type(label):
    done = command("transcribe", "-", "--format", label, "--url", "http://127.0.0.1:9")
    assert one_sentence(done.stderr) == "tornado-live: No tornado-live server answers at http://127.0.0.1:9."


def test_convert_reads_and_writes_a_pipe():
    audio = (DATA / "recordings" / "webm_opus_250ms" / "000.bin").read_bytes()
    done = command("convert", "-", "-", given=audio)
    assert done.returncode == 0, done.stderr
    with wave.open(io.BytesIO(done.stdout)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        frames = sound.getnframes()
        assert len(sound.readframes(frames)) == 2 * frames
    assert one_sentence(done.stderr) == f"{frames / 16_000:.2f} s of webm"
    assert not Path("-").exists()


def test_convert_writes_nothing_to_a_pipe_where_it_fails():
    done = command("convert", "-", "-", given=b"no audio at all")
    assert done.returncode == 1
    assert done.stdout == b""
    assert one_sentence(done.stderr).startswith("tornado-live: ")


def test_transcribe_without_a_server_says_so():
    done = command("transcribe", "-", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert one_sentence(done.stderr) == "tornado-live: No tornado-live server answers at http://127.0.0.1:9."
