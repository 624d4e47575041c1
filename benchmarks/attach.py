"""What attaching costs: how long until the probe runs, how long the main thread stands still, what the steps notice.

Each target of tests/targets is attached to and left again many times. Beside it, on the same target in the same
minutes: nothing at all (the null control), `py-spy dump`, and `memray attach` where memray is installed beside the
target's Python. A step that a visit meets is as long as its own log says.

The bars are for a quiet machine. How quiet it is, naps tell, taken between visits: 1 ms of sleep and 2 ms of work. By
how much they take longer, an attach takes longer too, and its target stands still. Exit codes: 0 within the bars, 1 not,
2 not resolved: beyond them, and naps were late.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from ratios import FAIL, NOT_RESOLVED, PASS, exit_code, interval, percentile, table, verdict
from targets import start

from tests.cycle import cycle, messages_until_closed
from torchtop.attach.connect import Connection, attach

LATENCY_P50_MS, LATENCY_P95_MS, PAUSE_P95_MS = 20.0, 100.0, 5.0  # DESIGN, "Budgets and promises"
NAPPING = "naps"
NOTHING, TORCHTOP, PY_SPY, MEMRAY = "nothing", "torchtop", "py-spy dump", "memray attach"
LATE_P95_MS = 0.5 * PAUSE_P95_MS  # of naps, above which exceeding a bar says nothing
NAP_S = 0.001
WORK_S = 0.002  # of CPU after each, as an injection takes
NAPS = 10  # at a time
RANKS = 4
RANKS_RATIO = 2.0  # bar: all ranks of a job together, over one of them
# Each sleeps for most of a step: ranks have cores of their own, which here there may not be.
RANK = ("train.py", "--model", "mlp", "--small", "--steps", "1000000", "--slow", "data", "--slow-s", "0.01")
JOBS = {
    "mlp": ("train.py", "--model", "mlp", "--steps", "1000000"),
    "transformer": ("train.py", "--model", "transformer", "--steps", "1000000"),
    "convbn, 2 loader workers": ("train.py", "--model", "convbn", "--steps", "1000000"),
    "matmul, no torch": ("exact.py", "--kind", "matmul", "--seconds", "3600"),
    "malloc, no torch": ("exact.py", "--kind", "malloc", "--seconds", "3600"),
}


class Visit(NamedTuple):
    """When something looked at the target, and how long that took it."""

    began: float
    ended: float

    @property
    def wall_ms(self) -> float:
        return 1000 * (self.ended - self.began)


def command(*line: str) -> Callable[[], None]:
    """Run it, its output thrown away; it must end well."""
    return lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) and None


def longest_steps_ms(steps: list[dict[str, Any]], visits: list[Visit]) -> list[float]:
    """Of each visit, the longest step that it met."""
    found = []
    for began, ended in visits:
        met = [step["step_s"] for step in steps if step["t_end"] >= began and step["t_end"] - step["step_s"] <= ended]
        if met:
            found.append(1000 * max(met))
    return found


def spread(values: list[float]) -> str:
    """p50 / p95 / max."""
    return " / ".join(f"{value:.1f}" for value in (median(values), percentile(values, 0.95), max(values)))


def visited(name: str, folder: Path, cycles: int, others: int, chance: random.Random) -> tuple[list[Any], list[Any]]:
    """Lines for the two tables: (latency and pause of each attach), (steps beside those of the other tools)."""
    target = start(folder / name.split(",")[0], *JOBS[name]).wait_ready()
    pid = str(target.pid)
    visits: dict[str, list[Visit]] = {NOTHING: [], TORCHTOP: []}
    ways: dict[str, Callable[[], None]] = {}
    if py_spy := tool("py-spy"):
        ways[PY_SPY] = command(py_spy, "dump", "--json", "--pid", pid)
    if (memray := tool("memray")) and name in ("mlp", "transformer"):
        ways[MEMRAY] = command(memray, "attach", "--duration", "1", "-f", "-o", str(folder / "memray.bin"), pid)
    latency_ms: list[float] = []
    pause_ms: list[float] = []
    late_ms: list[float] = []

    def attach_once() -> None:
        connection = cycle(target.pid)
        latency_ms.append(1000 * connection.hello_s)
        if connection.pause_s is not None:
            pause_ms.append(1000 * connection.pause_s)

    ways[TORCHTOP] = attach_once

    def naps() -> None:
        for _ in range(NAPS):
            began, used = time.monotonic(), time.thread_time()
            time.sleep(NAP_S)
            while time.thread_time() - used < WORK_S:
                pass
            late_ms.append(1000 * (time.monotonic() - began - NAP_S - (time.thread_time() - used)))

    ways[NAPPING] = naps
    ways[NOTHING] = lambda: time.sleep(0.06)
    plan = [TORCHTOP] * cycles + [way for way in ways if way != TORCHTOP for _ in range(others)]
    chance.shuffle(plan)
    try:
        for way in plan:
            began = time.monotonic()
            ways[way]()
            visits.setdefault(way, []).append(Visit(began, time.monotonic()))
            time.sleep(chance.uniform(0.02, 0.08))  # so that visits fall anywhere in a step, each in its own
    finally:
        (target.folder / "stop").touch()
        try:
            truth = target.finish()
        finally:
            target.process.kill()
    assert not truth.get("wrong") and not truth["errors"], truth
    steps = target.step_log() if (target.folder / "truth.json.steps").exists() else []
    lines = []
    for way, of_it in visits.items():
        long = longest_steps_ms(steps, of_it)
        if long and way != NAPPING:
            usual = f"{1000 * median(step['step_s'] for step in steps):.1f}"
            lines.append([name, usual, way, len(of_it), spread([visit.wall_ms for visit in of_it]), spread(long)])
    ok = (
        median(latency_ms) <= LATENCY_P50_MS
        and percentile(latency_ms, 0.95) <= LATENCY_P95_MS
        and percentile(pause_ms, 0.95) <= PAUSE_P95_MS
    )
    said = PASS if ok else NOT_RESOLVED if percentile(late_ms, 0.95) > LATE_P95_MS else FAIL
    return [name, len(latency_ms), spread(latency_ms), spread(pause_ms), spread(late_ms), said], lines


def ranks(folder: Path, rounds: int, chance: random.Random) -> tuple[list[Any], str]:
    """A line for the table of ranks, and its verdict: all of them attached in parallel, against one of them.

    They all run all the time, so that the machine is as crowded for one as for all.
    """
    jobs = [start(folder / f"rank-{rank}", *RANK) for rank in range(RANKS)]
    took: dict[str, list[float]] = {"one": [], "one again": [], "all": []}

    def join(pids: list[int]) -> float:
        began = time.monotonic()
        with ThreadPoolExecutor(len(pids)) as pool:
            connections: list[Connection] = list(pool.map(attach, pids))
        seconds = time.monotonic() - began
        for connection in connections:
            connection.channel.socket.sendall(b'{"type": "detach"}\n')
            messages_until_closed(connection)
            connection.channel.socket.close()
        return seconds

    try:
        pids = [job.wait_ready().pid for job in jobs]
        for _ in range(rounds):
            ways = list(took)
            chance.shuffle(ways)
            for way in ways:
                took[way].append(join(pids if way == "all" else [chance.choice(pids)]))
                time.sleep(chance.uniform(0.02, 0.08))
    finally:
        for job in jobs:
            (job.folder / "stop").touch()
        for job in jobs:
            try:
                job.finish()
            finally:
                job.process.kill()
    ratio, null = (interval(took[way], took["one"], chance) for way in ("all", "one again"))
    said = verdict(ratio, null, RANKS_RATIO)
    shown = [f"{1000 * median(took[way]):.1f}" for way in ("one", "all")]
    return [RANKS, rounds, *shown, str(ratio), str(null), said], said


def tool(name: str) -> str | None:
    """Its path: of this interpreter's environment first, else of PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=100, help="attaches and detaches of each target")
    parser.add_argument("--others", type=int, default=25, help="visits of each other tool, and of nothing")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    print(
        f"load average at the start {os.getloadavg()[0]:.2f}; memray is {'' if tool('memray') else 'not '}installed\n"
    )
    attaches, steps = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in JOBS:
            line, lines = visited(name, Path(folder), args.cycles, args.others, chance)
            attaches.append(line)
            steps += lines
        line, said = ranks(Path(folder), args.others, chance)
    bars = f"p50 {LATENCY_P50_MS:g}, p95 {LATENCY_P95_MS:g}", f"p95 {PAUSE_P95_MS:g}"
    print(f"ms as p50 / p95 / max; bars: latency {bars[0]}, pause {bars[1]}\n")
    print(table(["target", "attaches", "latency", "pause of the main thread", "nap late by", "verdict"], attaches))
    print("\nThe longest step that a visit met; one visit of torchtop is attaching and leaving again\n")
    print(table(["target", "usual step", "visitor", "visits", "visit took", "longest step met"], steps))
    print(f"\nAll ranks in parallel against one of them, ms and paired ratio; bar: {RANKS_RATIO:g}\n")
    print(table(["ranks", "rounds", "one", "all", "all / one", "one / one (null)", "verdict"], [line]))
    return exit_code([*(line[-1] for line in attaches), said])


if __name__ == "__main__":
    sys.exit(main())
