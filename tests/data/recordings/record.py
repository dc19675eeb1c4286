"""Makes more recordings like these: a headless Chromium whose microphone speaks jfk, cut as it delivers them.

    python tests/data/recordings/record.py NAME [--mime TYPE] [--timeslice MS] [--bits N] [--raw] [--restart]

`--raw` switches noise suppression, gain and echo control off, which makes it stereo; `--restart` stops the
recorder in the middle and starts it again, both parts in one list of chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from browser import Browser  # noqa: E402

SCRIPT = """
(async () => {
  const given = %s;
  const off = {echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 2};
  const stream = await navigator.mediaDevices.getUserMedia({audio: given.raw ? off : true});
  const chunks = [], begin = performance.now();
  const options = {mimeType: given.mime};
  if (given.bits) options.audioBitsPerSecond = given.bits;
  const record = async (ms) => {
    const recorder = new MediaRecorder(stream, options);
    recorder.ondataavailable = (event) => chunks.push([performance.now() - begin, event.data]);
    recorder.start(given.timeslice);
    await new Promise((resolve) => setTimeout(resolve, ms));
    const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
    recorder.stop();
    await stopped;
  };
  for (let part = 0; part < (given.restart ? 2 : 1); part++) await record(given.ms / (given.restart ? 2 : 1));
  return await Promise.all(chunks.map(async ([time, blob]) => {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let text = '';
    for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
    return [time, btoa(text)];
  }));
})()
"""


class _Blank(RequestHandler):
    def get(self) -> None:
        self.write("<!doctype html><title>recorder</title>")


async def record(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "jfk48k.wav"
        speech = HERE.parent / "speech" / "jfk.wav"
        command = ["ffmpeg", "-v", "error", "-i", str(speech), "-ar", "48000", str(microphone)]
        await asyncio.to_thread(subprocess.run, command, check=True)
        socket, port = bind_unused_port(address="127.0.0.1")
        server = HTTPServer(Application([("/", _Blank)]))
        server.add_socket(socket)
        browser = await Browser.launch(microphone)
        try:
            page = await browser.open(f"http://127.0.0.1:{port}/")
            agent = await page.evaluate("navigator.userAgent")
            asked = {key: value for key, value in vars(given).items() if key != "name"}
            chunks: list[Any] = await page.evaluate(SCRIPT % json.dumps(asked))
        finally:
            await browser.close()
            server.stop()
    folder_ = HERE / given.name
    folder_.mkdir(exist_ok=True)
    listed = []
    for i, (time, data) in enumerate(chunks):
        body = base64.b64decode(data)
        (folder_ / f"{i:03d}.bin").write_bytes(body)
        listed.append({"i": i, "t_ms": round(time), "size": len(body)})
    manifest = {"browser": agent, "source_wav": "jfk48k.wav", **asked, "chunks": listed}
    (folder_ / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name")
    parser.add_argument("--mime", default="audio/webm;codecs=opus")
    parser.add_argument("--timeslice", type=int, default=250)
    parser.add_argument("--bits", type=int, default=0)
    parser.add_argument("--ms", type=int, default=5000)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--restart", action="store_true")
    asyncio.run(record(parser.parse_args()))


if __name__ == "__main__":
    main()
