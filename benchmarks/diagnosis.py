"""Whether the advisor names what is wrong with a job, and is silent where nothing is.

Every job of plants/ is first run beside its cured twin, in blocks that take turns, which says how much worse what is planted
makes it by the job's own account. Then it is started again and `torchtop advise` watches it for 20 s at the default budget,
knowing nothing but its PID. Healthy jobs are watched too.

    python benchmarks/diagnosis.py [--only input-bound ...] [--healthy] [--cured] [--no-verify] [--json FILE]

Exit codes: 0 within the bars, 1 not, 2 not resolved: a plant could not be shown to be real.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memory_limits import NotHere
from planted_jobs import HEALTHY, MIB, PLANTED, Plant, Running, Step, running
from ratios import FAIL, NOT_RESOLVED, PASS, Interval, exit_code, interval, percentile, table

WATCHED_S = 20
ATTACH_S = 90  # s beyond it until something must be wrong
BAR = 0.90  # share of plants whose code has to come first (DESIGN, "Budgets and promises")
LINE_NEEDED = {"host-stall", "checkpoint-stall", "gc-pauses"}
BLOCK_S = 1.5
BLOCK_STEPS = 5  # and more where a job repeats itself less often
LOUD = {"warn", "critical"}
# What a plant has to make worse to be one: below, nobody could be asked to find it.
REAL = {"time": 1.05, "tail": 1.5, "memory": 1.1, "growth": 4.0, "spread": 1.3}
Z = 1.96


class Real(NamedTuple):
    """What the paired run of a plant and its cured twin says."""

    text: str
    verdict: str


class Watched(NamedTuple):
    """What torchtop said."""

    findings: list[dict[str, Any]]
    abstained: list[dict[str, Any]]
    seconds: float
    window_s: float
    problem: str | None = None


# Whether a plant is real


def block(job: Running) -> list[Step]:
    """Let the job run for a while, and give its whole periods; the step in which it began anew is left out."""
    before, began = len(job.steps()), time.monotonic()
    needed = max(BLOCK_STEPS, 2 * job.plant.period) + 1
    job.signal(signal.SIGCONT)
    job.wait_for(
        lambda: len(job.steps()) - before >= needed and time.monotonic() - began >= BLOCK_S, "a block of steps"
    )
    job.signal(signal.SIGSTOP)
    steps = job.steps()[before + 1 :]
    return steps[-(len(steps) // job.plant.period * job.plant.period) :]


def cost(plant: Plant, steps: Sequence[Step]) -> float:
    """s per sample; of a plant of the tail, the 95th percentile over the median."""
    if plant.measure == "tail":
        each = [step.per_sample for step in steps]
        return percentile(each, 0.95) / statistics.median(each)
    return sum(step.seconds for step in steps) / sum(step.samples for step in steps)


def paired(plant: Plant, rounds: int, chance: random.Random) -> Real:
    """Run both in turns."""
    with running(plant) as ill, running(plant, cured=True) as well:
        for job in (ill, well):
            job.wait_begun()
            job.signal(signal.SIGSTOP)
        began = [memory(plant, job) for job in (ill, well)]
        steps_before = [len(job.steps()) for job in (ill, well)]
        turns = []
        for _ in range(rounds):
            one = {job: block(job) for job in chance.sample([ill, well], k=2)}
            turns.append((one[ill], one[well]))
        above, below = ([cost(plant, turn[place]) for turn in turns] for place in (0, 1))
        ratio = interval(above, below, chance)
        ended = [memory(plant, job) for job in (ill, well)]
        steps = [len(job.steps()) - before for job, before in zip((ill, well), steps_before, strict=True)]
    if plant.measure == "fact":
        return Real(f"a fact; time {ratio}", PASS)
    if plant.measure in ("time", "tail"):
        bar = REAL[plant.measure]
        return Real(
            f"{'p95/p50 ' if plant.measure == 'tail' else ''}{ratio}", PASS if ratio.low >= bar else NOT_RESOLVED
        )
    if plant.measure == "growth":
        per_step = [(after - before) / count for after, before, count in zip(ended, began, steps, strict=True)]
        text = f"{per_step[0] / MIB:.2f} MiB a step, cured {per_step[1] / MIB:.2f}; time {ratio}"
        return Real(text, PASS if per_step[0] >= REAL["growth"] * max(per_step[1], 0.01 * MIB) else NOT_RESOLVED)
    times = ended[0] / ended[1]
    text = f"memory {times:.2f} ({ended[0] / MIB:.0f} against {ended[1] / MIB:.0f} MiB); time {ratio}"
    if plant.measure == "spread":
        text = f"largest rank {ended[0]:.2f} of the smallest, cured {ended[1]:.2f}; time {ratio}"
    return Real(text, PASS if times >= REAL[plant.measure] else NOT_RESOLVED)


def memory(plant: Plant, job: Running) -> float:
    """bytes: of a rank at most, now where growth counts; largest over smallest rank where that counts."""
    if plant.measure == "growth":
        return max(job.memory("VmRSS"))
    peaks = job.memory("VmHWM")
    return max(peaks) / min(peaks) if plant.measure == "spread" else max(peaks)


# What torchtop says


def advise(pid: int, for_s: int) -> Watched:
    """Watch a job with the real command."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "torchtop", "advise", str(pid), "--for", f"{for_s}s", "--json"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=for_s + ATTACH_S,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        return Watched([], [], seconds, 0.0, f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    snapshot = json.loads(done.stdout)
    return Watched(snapshot["findings"], snapshot["abstained"], seconds, snapshot["window_s"])


def watched(plant: Plant, for_s: int, cured: bool = False) -> tuple[Watched, dict[str, Any]]:
    """What torchtop says of a job that was just started, and the truth."""
    with running(plant, cured) as job:
        job.wait_begun(max(5, plant.period))
        return advise(job.pid, for_s), job.truth()


def place(finding: dict[str, Any]) -> str:
    """Where a finding says it is, short."""
    where = {key: value for key, value in finding["where"].items() if value is not None}
    file = where.pop("file", None)
    line = where.pop("line", None)
    said = [f"{Path(file).name}:{line}"] if file else []
    return " ".join(said + [f"{key} {value}" for key, value in where.items() if isinstance(value, (int, str))])[:90]


def names_the_line(finding: dict[str, Any], truth: dict[str, Any]) -> bool:
    """Whether it names a planted line."""
    where = finding["where"]
    return [Path(str(where.get("file"))).name, where.get("line")] in [
        [Path(file).name, line] for file, line in truth["places"]
    ]


def wilson(right: int, tried: int) -> Interval:
    """A share and its 95 % interval (Wilson, 1927), which is honest for few trials and for shares near 1."""
    share = right / tried
    middle = (share + Z * Z / (2 * tried)) / (1 + Z * Z / tried)
    half = Z * math.sqrt(share * (1 - share) / tried + Z * Z / (4 * tried * tried)) / (1 + Z * Z / tried)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


# The whole


class Result(NamedTuple):
    """One row."""

    plant: Plant
    real: Real
    said: Watched
    truth: dict[str, Any]

    @property
    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.said.findings]

    @property
    def line_named(self) -> bool | None:
        """Whether the line was named; None where it need not be."""
        if self.plant.code not in LINE_NEEDED:
            return None
        return any(
            finding["code"] == self.plant.code and names_the_line(finding, self.truth) for finding in self.said.findings
        )

    @property
    def first(self) -> bool:
        return self.codes[:1] == [self.plant.code] and self.line_named is not False

    @property
    def among_three(self) -> bool:
        return self.plant.code in self.codes[:3] and self.line_named is not False

    @property
    def cells(self) -> list[object]:
        said = self.said.findings[0] if self.said.findings else None
        first = f"{said['code']} ({said['severity']})" if said else self.said.problem or "nothing"
        if self.plant.code not in self.codes:
            first += f"; {self.plant.code}: {self.reason}"
        line = {None: "", True: "yes", False: "**no**"}[self.line_named]
        marks = ["yes" if right else "**no**" for right in (self.first, self.among_three)]
        return [
            *(self.plant.code, self.plant.style, self.real.text, first, place(said) if said else "", *marks, line),
            f"{self.said.seconds:.0f} s",
        ]

    @property
    def reason(self) -> str:
        """Why the code is not among the findings."""
        said = [row["reason"] for row in self.said.abstained if row["code"] == self.plant.code]
        return f"abstained, {said[0]}" if said else "judged to be well"


def judged(plants: Sequence[Plant], rounds: int, for_s: int, chance: random.Random) -> tuple[list[Result], list[str]]:
    """All planted jobs, one after another; and those that this machine cannot have."""
    results, absent = [], []
    for plant in plants:
        try:
            real = paired(plant, rounds, chance) if rounds else Real("not measured", NOT_RESOLVED)
            results.append(Result(plant, real, *watched(plant, for_s)))
        except NotHere as reason:
            absent.append(f"{plant.name}: not demonstrable here: {reason}")
        except (RuntimeError, subprocess.TimeoutExpired) as problem:
            results.append(
                Result(plant, Real("", NOT_RESOLVED), Watched([], [], 0.0, 0.0, str(problem)), {"places": []})
            )
        if results and results[-1].plant is plant:
            print(" | ".join(map(str, results[-1].cells)), file=sys.stderr)
    return results, absent


def quiet(plants: Sequence[Plant], for_s: int, cured: bool) -> list[tuple[Plant, Watched]]:
    """Jobs with nothing wrong, and what was said of them."""
    said = []
    for plant in plants:
        try:
            said.append((plant, watched(plant, for_s, cured)[0]))
        except NotHere:
            continue
        except (RuntimeError, subprocess.TimeoutExpired) as problem:
            said.append((plant, Watched([], [], 0.0, 0.0, str(problem))))
        print(plant.name, said[-1][1].problem or spoken(said[-1][1].findings) or "nothing", file=sys.stderr)
    return said


def spoken(findings: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{finding['code']} ({finding['severity']})" for finding in findings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="CODE", help="these codes, or code/style, or healthy/shape")
    parser.add_argument("--healthy", action="store_true", help="the healthy jobs and nothing else")
    parser.add_argument("--cured", action="store_true", help="also watch the cured twin of each plant")
    parser.add_argument("--no-verify", action="store_true", help="do not run plants beside their cured twins first")
    parser.add_argument("--rounds", type=int, default=6, help="turns of a plant and its cured twin")
    parser.add_argument("--seconds", type=int, default=WATCHED_S, help="how long torchtop watches each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all that was said")
    parser.add_argument("--list", action="store_true", help="list the jobs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def wanted(plant: Plant) -> bool:
        return not args.only or any(plant.name == word or plant.name.startswith(f"{word}/") for word in args.only)

    planted = [] if args.healthy else [plant for plant in PLANTED if wanted(plant)]
    healthy = [plant for plant in HEALTHY if wanted(plant)]
    if args.list:
        print("\n".join(plant.name for plant in (*planted, *healthy)))
        return 0
    results, absent = judged(planted, 0 if args.no_verify else args.rounds, args.seconds, random.Random(args.seed))
    silent = quiet(healthy, args.seconds, cured=False)
    cured = quiet(planted, args.seconds, cured=True) if args.cured else []
    if args.json:
        args.json.write_text(
            json.dumps(
                [[row.plant.name, row.real.text, row.said._asdict(), row.truth] for row in results]
                + [[plant.name, "healthy", said._asdict(), {}] for plant, said in silent]
                + [[plant.name, "cured", said._asdict(), {}] for plant, said in cured]
            )
        )
    return report(results, absent, silent, cured)


def report(
    results: Sequence[Result],
    absent: Sequence[str],
    silent: Sequence[tuple[Plant, Watched]],
    cured: Sequence[tuple[Plant, Watched]],
) -> int:
    """Print it all as Markdown; the exit code."""
    verdicts = []
    if results:
        head = [
            "planted",
            "style",
            "planted against cured",
            "first finding",
            "place",
            "first",
            "of three",
            "line",
            "verdict after",
        ]
        print(table(head, [row.cells for row in results]))
        for what, right in (
            ("first", [row.first for row in results]),
            ("among the first three", [row.among_three for row in results]),
        ):
            share = wilson(sum(right), len(right))
            print(f"\n{what}: {sum(right)} of {len(right)}, {share}")
        first = sum(row.first for row in results) / len(results)
        verdicts.append(PASS if first >= BAR else FAIL)
        verdicts += [row.real.verdict for row in results]
        unreal = [row.plant.name for row in results if row.real.verdict != PASS]
        if unreal:
            print(f"\nnot shown to be worse than their cured twins in this run: {', '.join(unreal)}")
    for line in absent:
        print(f"\n{line}")
    for title, rows, problems_only in (("healthy", silent, False), ("cured", cured, True)):
        if rows:
            loud = {plant.name: [row for row in said.findings if row["severity"] in LOUD] for plant, said in rows}
            print(f"\n{table([f'{title} job', 'warn or critical', 'info'], lines(rows))}")
            print(f"\nfalse alarms: {sum(map(bool, loud.values()))} of {len(rows)} {title} jobs")
            if not problems_only:
                bad = any(loud.values()) or any(said.problem for _, said in rows)
                verdicts.append(FAIL if bad else PASS)
    late = [row.said.window_s for row in results if row.said.window_s > WATCHED_S + 0.5]
    verdicts.append(FAIL if late else PASS)
    return exit_code(verdicts)


def lines(rows: Sequence[tuple[Plant, Watched]]) -> list[list[object]]:
    """Each job, its loud findings, and its quiet ones."""
    return [
        [
            plant.name,
            said.problem or spoken([row for row in said.findings if row["severity"] in LOUD]),
            spoken([row for row in said.findings if row["severity"] not in LOUD]),
        ]
        for plant, said in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
