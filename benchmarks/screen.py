"""What the screen costs and how fast it is: the real `torchtop attach` on a pseudo-terminal of 120x40.

- From exec to the first paint, and to the first row of a layer, on the transformer demo.
- A minute at 1 Hz: CPU of it and of what it starts, memory, bytes to the terminal; the same while the display is paused
  and while the target is stopped, when there must be none.
- From a key to what it changes, at random moments: on the demo, and under load. The load are processes that have PyTorch
  and answer as a probe does (false_rank.py): 8 ranks, each 20 steps and one armed step of 2,000 modules a second.
- The same of nvitop, where `make .venv-bench/.installed` could install it and there is a GPU to show.

Bytes that a key is waited for may come with a redraw of the same second: that makes a few of the waits look shorter.
Times are for a quiet machine; beyond a bar says nothing when other programs used more than `OTHERS` cores meanwhile.
Exit codes: 0 within the bars, 1 not, 2 not resolved.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ratios import FAIL, NOT_RESOLVED, PASS, exit_code, percentile, table
from terminal import Machine, Terminal

COLUMNS, ROWS = 120, 40
FIRST_PAINT_S, FIRST_LAYER_S, KEY_S = 1.5, 2.5, 0.1  # issue "The live screen"
CPU_SHARE, RSS_BYTES, BYTES_PER_S = 0.05, 70 << 20, 3 << 10  # DESIGN, "Budgets and promises"
OTHERS = 0.3  # cores of other programs
RANKS, LAYERS = 8, 2000
PATIENCE_S = 30.0
ROOT = Path(__file__).parents[1]
TORCHTOP = str(Path(sys.executable).with_name("torchtop"))
NVITOP = ROOT / ".venv-bench/bin/nvitop"
RULE, ROW = "─".encode(), rb"qkv|attention"
CHOSEN = "▶".encode()
KEYS = {"down": (b"\x1b[B", CHOSEN), "tab": (b"\t", CHOSEN), "?": (b"?", rb"[a-z]{6}")}
BACK = {"down": b"\x1b[A", "tab": b"\x1b[Z", "?": b"\x1b"}
NVITOP_KEYS = {"down": (b"\x1b[B", rb".")}


class Plan(NamedTuple):
    """How long each part takes. s, and numbers of repetitions."""

    starts: int
    warm_s: float
    steady_s: float
    still_s: float
    keys: int
    load_warm_s: float


FULL = Plan(starts=5, warm_s=30.0, steady_s=60.0, still_s=15.0, keys=60, load_warm_s=70.0)
QUICK = Plan(starts=1, warm_s=3.0, steady_s=8.0, still_s=2.0, keys=6, load_warm_s=2.0)


class Steady(NamedTuple):
    """What a while of watching took."""

    cpu_share: float
    rss_bytes: int
    peak_bytes: int
    bytes_per_s: float


def steady(terminal: Terminal, seconds: float) -> Steady:
    """Look on for so long."""
    began, used = time.monotonic(), terminal.cpu_s()
    time.sleep(seconds)
    ended = time.monotonic()
    took = ended - began
    return Steady((terminal.cpu_s() - used) / took, *terminal.memory_bytes(), terminal.written(began, ended) / took)


def key_waits(
    terminal: Terminal, keys: dict[str, tuple[bytes, bytes]], count: int, chance: random.Random
) -> list[float]:
    """s from each of `count` keys to what it changes, at moments that have nothing to do with the redraws."""
    waits = []
    for number in range(count):
        time.sleep(chance.uniform(0.2, 0.7))
        name = list(keys)[number % len(keys)]
        key, pattern = keys[name]
        pressed = terminal.press(key)
        seen = terminal.wait_for(pattern, pressed, PATIENCE_S)
        if seen is None:
            raise SystemExit(f"nothing came of the key {name}: {terminal.text()[-500:]}")
        waits.append(seen - pressed)
        if name in BACK:
            time.sleep(chance.uniform(0.2, 0.4))
            terminal.press(BACK[name])
    time.sleep(0.5)  # an escape and what follows it at once are one key
    return waits


def open_on(command: Sequence[str], pattern: bytes) -> tuple[Terminal, float | None, float | None]:
    """The program on its terminal, and s from exec to its first rule and to `pattern`."""
    terminal = Terminal(command, COLUMNS, ROWS, os.environ)
    paint = terminal.wait_for(b"attaching|" + RULE, terminal.began, PATIENCE_S)
    row = terminal.wait_for(pattern, terminal.began, PATIENCE_S)
    return terminal, paint and paint - terminal.began, row and row - terminal.began


@contextmanager
def demo() -> Iterator[int]:
    """The transformer demo, its first steps done; its pid."""
    process = subprocess.Popen([sys.executable, "-m", "torchtop.demo.transformer"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 2 * PATIENCE_S
        while subprocess.run(
            [TORCHTOP, "export", str(process.pid), "--for", "1s"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("the demo did not get to its steps")
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def load() -> Iterator[list[int]]:
    """The job that does not exist; the pids of its ranks."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        ranks = []
        try:
            for rank in range(RANKS):
                numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "MASTER_PORT": "29599"}
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, str(ROOT / "benchmarks/false_rank.py"), "--layers", str(LAYERS)],
                        stdout=subprocess.PIPE,
                        env={**os.environ, **numbers, "MASTER_ADDR": "127.0.0.1", "TMPDIR": folder},
                    )
                )
            for process in ranks:
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    raise SystemExit("a false rank did not start")
            yield [process.pid for process in ranks]
        finally:
            for process in ranks:
                process.terminate()
            for process in ranks:
                process.wait()


class Report:
    """Lines of the table, each with its verdict."""

    def __init__(self) -> None:
        self.lines: list[list[object]] = []

    def judge(self, what: str, shown: str, bar: str, within: bool, others: float | None = None) -> None:
        """others: cores that other programs used, where that could be why a bar was exceeded."""
        noisy = others is not None and others > OTHERS
        said = PASS if within else NOT_RESOLVED if noisy else FAIL
        self.lines.append([what, shown, bar, "-" if others is None else f"{others:.2f}", said])

    def tell(self, what: str, shown: str) -> None:
        """Only to know."""
        self.lines.append([what, shown, "-", "-", "-"])

    def steady(self, what: str, seen: Steady, others: float, judged: bool) -> None:
        """CPU, memory and bytes of a while."""
        found = (
            ("CPU", f"{100 * seen.cpu_share:.1f} % of a core", f"{100 * CPU_SHARE:g} %", seen.cpu_share <= CPU_SHARE),
            (
                "RSS / peak",
                f"{seen.rss_bytes / 2**20:.1f} / {seen.peak_bytes / 2**20:.1f} MiB",
                f"{RSS_BYTES >> 20} MiB",
                seen.peak_bytes <= RSS_BYTES,
            ),
            ("terminal", f"{seen.bytes_per_s:.0f} B/s", f"{BYTES_PER_S} B/s", seen.bytes_per_s <= BYTES_PER_S),
        )
        for name, shown, bar, within in found:
            if judged:
                self.judge(f"{what}: {name}", shown, bar, within, others if name == "CPU" else None)
            else:
                self.tell(f"{what}: {name}", shown)

    def keys(self, what: str, waits: Sequence[float], others: float, judged: bool) -> None:
        """Reaction to keys."""
        shown = " / ".join(f"{1000 * s:.0f}" for s in (median(waits), percentile(waits, 0.95), max(waits)))
        if judged:
            self.judge(
                f"{what}: key p50 / p95 / max", f"{shown} ms", f"p95 {1000 * KEY_S:g} ms",
                percentile(waits, 0.95) <= KEY_S, others,
            )  # fmt: skip
        else:
            self.tell(f"{what}: key p50 / p95 / max", f"{shown} ms")

    @property
    def verdicts(self) -> list[str]:
        return [str(line[-1]) for line in self.lines if line[-1] != "-"]


def on_demo(report: Report, plan: Plan, chance: random.Random) -> None:
    """All that is measured on a real job."""
    with demo() as pid:
        command = [TORCHTOP, "attach", str(pid)]
        paints, rows, ended_s = [], [], 0.0
        machine = Machine()
        for number in range(plan.starts + 1):
            terminal, paint, row = open_on(command, ROW)
            if paint is None or row is None:
                raise SystemExit(f"no screen: {terminal.text()[-1000:]}")
            if number:  # the first one read the files from disk
                paints.append(paint)
                rows.append(row)
            if number < plan.starts:
                terminal.close()
                ended_s += terminal.used_s
        others = machine.others([pid, terminal.pid], ended_s)
        for what, took, bar in (("first paint", paints, FIRST_PAINT_S), ("first layer row", rows, FIRST_LAYER_S)):
            shown = f"{median(took):.2f} s of {min(took):.2f} .. {max(took):.2f}"
            report.judge(f"exec to {what}", shown, f"{bar:g} s", median(took) <= bar, others)
        try:
            time.sleep(plan.warm_s)
            machine = Machine()
            seen = steady(terminal, plan.steady_s)
            report.steady("demo", seen, machine.others([pid, terminal.pid]), judged=True)
            machine = Machine()
            waits = key_waits(terminal, KEYS, plan.keys, chance)
            report.keys("demo", waits, machine.others([pid, terminal.pid]), judged=True)
            terminal.press(b" ")
            nothing_written(report, "paused", terminal, plan)
            terminal.press(b" ")
            os.kill(pid, signal.SIGSTOP)
            try:
                nothing_written(report, "target stopped", terminal, plan)
            finally:
                os.kill(pid, signal.SIGCONT)
        finally:
            code = terminal.close()
        report.judge("exit status", str(code), "0", code == 0)


def nothing_written(report: Report, what: str, terminal: Terminal, plan: Plan) -> None:
    """A while in which not a byte may come."""
    time.sleep(3.0)  # what was under way is written, and that the target is stopped was read
    began = time.monotonic()
    time.sleep(plan.still_s)
    count = terminal.written(began, time.monotonic())
    report.judge(f"{what}: terminal", f"{count} B in {plan.still_s:g} s", "0 B", count == 0)


def under_load(report: Report, plan: Plan, chance: random.Random) -> None:
    """Eight ranks of two thousand layers."""
    with load() as pids:
        terminal, _, row = open_on([TORCHTOP, "attach", str(pids[0])], ROW)
        try:
            if row is None:
                raise SystemExit(f"no layers under load: {terminal.text()[-1000:]}")
            time.sleep(plan.load_warm_s)
            machine = Machine()
            report.steady(
                "load", steady(terminal, plan.steady_s / 3), machine.others([*pids, terminal.pid]), judged=False
            )
            machine = Machine()
            waits = key_waits(terminal, KEYS, plan.keys, chance)
            report.keys("load", waits, machine.others([*pids, terminal.pid]), judged=True)
        finally:
            terminal.close()


def of_nvitop(report: Report, plan: Plan, chance: random.Random) -> None:
    """The nearest relative, or why it cannot be measured here."""
    if not NVITOP.exists():
        report.tell("nvitop", "not measured: not installed, `make .venv-bench/.installed` says why")
        return
    tried = subprocess.run([str(NVITOP), "--once"], capture_output=True, text=True, check=False)
    if tried.returncode:
        report.tell("nvitop", f"not measured: {(tried.stderr or tried.stdout).strip().splitlines()[0]}")
        return
    terminal, paint, _ = open_on([str(NVITOP)], rb".")
    try:
        report.tell("nvitop: exec to first paint", f"{paint:.2f} s" if paint is not None else "-")
        time.sleep(plan.warm_s)
        report.steady("nvitop", steady(terminal, plan.steady_s), 0.0, judged=False)
        report.keys("nvitop", key_waits(terminal, NVITOP_KEYS, plan.keys, chance), 0.0, judged=False)
    finally:
        terminal.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute instead of six: to see that all is well")
    parser.add_argument("--part", choices=("demo", "load", "nvitop"), help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    plan, chance, report = (QUICK if args.quick else FULL), random.Random(args.seed), Report()
    for name, part in (("demo", on_demo), ("load", under_load), ("nvitop", of_nvitop)):
        if args.part in (None, name):
            part(report, plan, chance)
    print(f"{COLUMNS}x{ROWS}, {plan.steady_s:g} s a while, {plan.keys} keys; load: {RANKS} ranks of {LAYERS} modules\n")
    print(table(["what", "measured", "bar", "cores of others", "verdict"], report.lines))
    return exit_code(report.verdicts)


if __name__ == "__main__":
    sys.exit(main())
