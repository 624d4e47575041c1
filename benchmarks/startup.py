"""How long `torchtop --help` takes, beside `python -c 'import typer'`: a ratio, and whether it is within the bar.

Each round runs both, and the second once more as the null control, in random order. Rounds are paired; the interval is
a bootstrap of the median ratio. Exit codes: 0 within the bar, 1 not, 2 not resolved (the machine is too noisy).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

BAR = 1.3  # DESIGN, "Budgets and promises"
RESAMPLES = 5000
TYPER = [sys.executable, "-c", "import typer"]
COMMANDS = {
    "torchtop --help": [str(Path(sys.executable).with_name("torchtop")), "--help"],
    "import typer": TYPER,
    "import typer, again": TYPER,
}


class Cost(NamedTuple):
    """What one run of a command took."""

    wall_s: float
    cpu_s: float


class Interval(NamedTuple):
    """A median and the bounds of its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def measured(command: list[str]) -> Cost:
    """Run `command` to its end, its output thrown away."""
    silent = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)} failed: install torchtop in this environment first")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime)


def interval(values: Sequence[float], chance: random.Random) -> Interval:
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Interval(statistics.median(values), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)

    for command in COMMANDS.values():
        measured(command)  # the first run writes .pyc files
    rounds = []
    for _ in range(args.rounds):
        order = chance.sample(list(COMMANDS), k=len(COMMANDS))
        rounds.append({name: measured(COMMANDS[name]) for name in order})

    def report(what: str, cost: Callable[[Cost], float]) -> int:
        took, base, again = ([cost(row[name]) for row in rounds] for name in COMMANDS)
        ratio = interval([a / b for a, b in zip(took, base, strict=True)], chance)
        null = interval([a / b for a, b in zip(again, base, strict=True)], chance)
        # The null's own excess is what the machine adds, not what torchtop does.
        within = ratio.high - (null.high - 1) <= BAR
        resolved = (null.high - null.low) / 2 <= (BAR - 1) / 2
        verdict = ("pass" if within else "FAIL") if resolved else "not resolved"
        milliseconds = ", ".join(f"{1000 * statistics.median(values):.0f} ms" for values in (took, base))
        print(f"{what:5} {ratio}  null {null}  ({milliseconds})  {verdict}")
        return (0 if within else 1) if resolved else 2

    print(f"torchtop --help / import typer, {args.rounds} rounds, median and 95 % interval, bar {BAR}")
    codes = [report("wall", lambda cost: cost.wall_s), report("CPU", lambda cost: cost.cpu_s)]
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
