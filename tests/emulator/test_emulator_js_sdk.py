"""Google's JavaScript SDK holds a whole conversation with the emulator."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from raw_client import StartEmulator

from tornado_live.emulator import numbered

SDK = "@google/genai@3.1.0"
SCRIPT = Path(__file__).with_name("conversation.mjs")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the SDK is installed."""
    folder = tmp_path_factory.mktemp("js")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", SDK]
    subprocess.run(npm, cwd=folder, check=True, capture_output=True, timeout=100)
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_a_whole_conversation_over_the_javascript_sdk(
    project: Path, start_emulator: StartEmulator
) -> None:
    emulator = await start_emulator(script={"utterances": ["what is two plus two"]})
    speech = project / "speech.pcm"
    speech.write_bytes(numbered.tone(1.0) + bytes(32_000))
    node = await asyncio.create_subprocess_exec(
        "node", SCRIPT.name, emulator.url, str(speech),
        cwd=project, stdout=subprocess.PIPE, env={**os.environ, "NODE_EXTRA_CA_CERTS": emulator.ca_file},
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, _ = await node.communicate()
    result = json.loads(output)
    assert result["text"]["said"].startswith("Hello. I am the offline demo engine")
    assert result["speech"]["heard"] == "what is two plus two"
    assert result["speech"]["said"] == "two plus two is 4."
    assert result["speech"]["audioBytes"] > 24_000
    assert result["speech"]["tokens"] > result["text"]["tokens"] > 0
    assert result["tool"]["said"] == 'get_weather says {"output": "sunny"}.'
    assert result["resumed"]["said"] == "This is turn 4 of our conversation."
    assert result["closed"] == {"code": 1007, "reason": "Request contains an invalid argument."}
