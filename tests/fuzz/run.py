"""Runs the fuzz targets for a bounded time, each in a process of its own; exit code 1 if one crashed.

    python tests/fuzz/run.py --seconds 60 --seed 1 [target ...]

A crash, a hang (5 s for one input) or more than 512 MiB leaves the input in the `--findings` folder.
Needs `pip install atheris`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CODECS = ("webm", "ogg", "mp4", "m4a", "wav", "pcm", "mp3", "aac", "flac")
TARGETS = {codec: ["codecs.py", codec] for codec in CODECS} | {"messages": ["messages.py"]}
"""The script of each, with its arguments."""


def fuzz(target: str, seconds: int, seed: int, findings: Path) -> bool:
    """Whether the target stood it."""
    script, *arguments = TARGETS[target]
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        shutil.copytree(HERE / "corpus" / target, corpus)
        command = [
            sys.executable, str(HERE / script), *arguments, str(corpus),
            f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={findings}/{target}-",
            "-timeout=5", "-rss_limit_mb=512", "-max_len=8192", "-print_final_stats=1",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    tried = next((line.split()[-1] for line in done.stderr.splitlines() if "executed_units" in line), "?")
    print(f"{target:8} {tried:>9} inputs  {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="target")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    given.findings.mkdir(parents=True, exist_ok=True)
    stood = [fuzz(target, given.seconds, given.seed, given.findings) for target in given.targets]
    return 0 if all(stood) else 1


if __name__ == "__main__":
    sys.exit(main())
