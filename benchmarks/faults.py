"""Runs every fault that sessions are promised to survive, and prints what was seen, as a table.

    python benchmarks/faults.py             in full, some twelve minutes
    python benchmarks/faults.py --short     as in CI, under four
    python benchmarks/faults.py --real-time and a session of fifteen minutes besides, none of it scaled

Lost and doubled words are counted with numbered speech: every second of it is a word that carries its
number, which the emulator reads back.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import structlog
from fault_runs import closes, crashes, cuts, drains, leaks, readers, rotation


@dataclass(frozen=True)
class Row:
    """One figure."""

    fault: str
    target: str
    seen: str
    met: bool


@dataclass
class Report:
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, fault: str, target: str, seen: str, *, met: bool) -> None:
        self.rows.append(Row(fault, target, seen, met))
        print(f"| {fault} | {target} | {seen} | {'yes' if met else 'NO'} |", flush=True)

    def note(self, note: str) -> None:
        self.notes.append(note)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="fewer of everything, for CI")
    arguments.add_argument("--real-time", action="store_true", help="a real fifteen-minute session too")
    arguments.add_argument("--only", nargs="*", choices=list(RUNS), help="only these")
    chosen = arguments.parse_args()
    logging.disable(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report = Report()
    print("| fault | target | seen | met |\n|---|---|---|---|", flush=True)
    began = time.monotonic()
    for name in chosen.only or RUNS:
        RUNS[name](report, chosen.short)
    if chosen.real_time:
        _real_time(report)
    print(f"\n{time.monotonic() - began:.0f} s.")
    for note in report.notes:
        print(f"- {note}")
    return 0 if all(row.met for row in report.rows) else 1


def _rotation(report: Report, short: bool) -> None:
    wanted = 4 if short else 12
    heard = asyncio.run(rotation.talk_through_go_aways(wanted))
    _words(report, f"goAway, {heard.go_aways} times in a session", heard)
    gap = _p95(heard.rotations)
    report.add(
        "… gap in the upstream",
        "p95 ≤ 300 ms + dial",
        f"p95 {gap:.0f} ms, dial included",
        met=gap <= 300 + heard.dial_ms,
    )


def _words(report: Report, fault: str, heard: rotation.Heard) -> None:
    report.add(
        fault,
        "0 chunks lost, every word in the ledger once",
        f"{heard.unacknowledged} chunks lost; of {len(heard.spoken)} words {len(heard.lost)} lost, "
        f"{len(heard.doubled)} twice; {len(heard.rotations)} rotations",
        met=heard.complete,
    )


def _scaled(report: Report, short: bool) -> None:
    scale = 30 if short else 15
    heard = asyncio.run(
        rotation.talk_for(900 / scale, model="gemini-3.1-flash-live-preview", time_scale=scale)
    )
    _words(report, f"fifteen minutes of lifetimes in {900 / scale:.0f} s", heard)


def _real_time(report: Report) -> None:
    heard = asyncio.run(rotation.talk_for(880, model="gemini-3.1-flash-live-preview"))
    _words(report, "a fifteen-minute session in real time", heard)


def _cuts(report: Report, short: bool) -> None:
    count = 6 if short else 50
    returns = asyncio.run(
        cuts.cut_clients(count, at_once=10 if short else 17, longest_away_s=3 if short else 10)
    )
    exact = sum(one.exact and one.taken for one in returns)
    p95 = _p95([one.resume_ms for one in returns])
    report.add(
        f"client cut at {count} random bytes, away for up to {'3' if short else '10'} s",
        f"{count}/{count} byte-exact",
        f"{exact}/{count}",
        met=exact == count,
    )
    report.add("… time to resume", "p95 ≤ 300 ms", f"p95 {p95:.0f} ms", met=p95 <= 300)
    for one in returns:
        if one.trouble or not one.taken:
            report.note(
                f"cut after {one.where}, away {one.away_s:.1f} s: {one.trouble or 'audio taken twice'}"
            )


def _kills(report: Report, short: bool) -> None:
    count, sessions = (4, 3) if short else (20, 5)
    comebacks = [one for each in asyncio.run(crashes.kill_servers(count, sessions=sessions)) for one in each]
    slowest = max(one.attached_s for one in comebacks)
    back = sum(one.attached_s <= 15 and one.goes_on for one in comebacks)
    intact = sum(one.intact for one in comebacks)
    report.add(
        f"SIGKILL at {count} random moments, {sessions} sessions each",
        "all attach again ≤ 15 s, committed turns intact",
        f"{back}/{len(comebacks)} attached, the slowest after {slowest:.1f} s; {intact} intact",
        met=back == intact == len(comebacks),
    )
    for one in comebacks:
        if one.trouble:
            report.note(f"after a kill: {one.trouble}")


def _drain(report: Report, short: bool) -> None:
    seen = asyncio.run(drains.terminate(200))
    report.add(
        f"SIGTERM with {seen.clients} sessions, {seen.under_way} being answered",
        "all told, 1012, exit 0 ≤ 45 s, 0 turns lost",
        f"{seen.told} told, {seen.closed_1012} closed 1012 over {seen.spread_s:.1f} s, {seen.finished} "
        f"answers finished, {seen.lost_turns} turns lost, exit {seen.exit_code} after {seen.seconds:.1f} s",
        met=seen.told == seen.closed_1012 == seen.clients
        and not seen.lost_turns
        and seen.exit_code == 0
        and seen.seconds <= 45,
    )


def _closes(report: Report, short: bool) -> None:
    reactions = asyncio.run(
        closes.close_every_way(watched_s=4.0 if short else closes.WATCHED_S, at_once=13 if short else 17)
    )
    right = sum(one.right for one in reactions)
    dials = max(one.dials for one in reactions)
    report.add(
        f"{len(closes.CLOSINGS)} ways to close × connecting, mid-turn, resuming",
        "the right reaction, ≤ 6 dials in 30 s",
        f"{right}/{len(reactions)} right, at most {dials} dials",
        met=right == len(reactions),
    )
    for one in reactions:
        if not one.right:
            report.note(f"{one.closing.name}, {one.moment}: {one.seen}, {one.dials} dials")


def _readers(report: Report, short: bool) -> None:
    seen = asyncio.run(readers.never_read(20 if short else 50))
    allowed = 25 * seen.readers / 50
    report.add(
        f"{seen.readers} readers that never read, the model {seen.ahead_s:.0f} s ahead",
        f"≤ {allowed:.0f} MiB more, closed ≤ 45 s",
        f"{seen.grown_mib:.0f} MiB, closed after {seen.closed_s:.0f} s",
        met=seen.grown_mib <= allowed and seen.closed_s <= 45,
    )


def _leaks(report: Report, short: bool) -> None:
    seen = asyncio.run(
        leaks.start_and_end(100, warm_up=100) if short else leaks.start_and_end(warm_up=600, settle_s=62.5)
    )
    before, after = seen.before, seen.after
    report.add(
        f"{seen.sessions} sessions started and ended",
        "tasks, sockets, memory, threads flat",
        f"tasks {before.tasks} → {after.tasks}, files {before.files} → {after.files}, threads "
        f"{before.threads} → {after.threads}, memory {before.rss_mib:.0f} → {after.rss_mib:.0f} MiB",
        met=(before.tasks, before.files, before.threads) == (after.tasks, after.files, after.threads)
        and after.rss_mib - before.rss_mib <= leaks.FLAT_MIB,
    )


def _model(report: Report, short: bool) -> None:
    from fault_runs import model

    examples, steps = (8, 15) if short else (60, 40)
    taken, failure = model.check(examples, steps)
    report.add(
        f"state machine over real processes, {taken.steps} steps in {examples} runs, {taken.kills} kills",
        "no promise broken",
        failure or "none broken",
        met=not failure,
    )


RUNS: dict[str, Callable[[Report, bool], None]] = {
    "rotation": _rotation,
    "scaled": _scaled,
    "cuts": _cuts,
    "kills": _kills,
    "drain": _drain,
    "closes": _closes,
    "readers": _readers,
    "leaks": _leaks,
    "model": _model,
}


def _p95(values: list[float] | list[int]) -> float:
    ordered = sorted(values)
    return float(ordered[math.ceil(0.95 * len(ordered)) - 1]) if ordered else math.nan


if __name__ == "__main__":
    sys.exit(main())
