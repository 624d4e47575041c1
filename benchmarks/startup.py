"""How long `torchtop --help` takes, beside `python -c 'import typer'`: a ratio, and whether it is within the bar.

Each round runs both, and the second once more as the null control, in random order. Rounds are paired; see
ratios.py for the interval. Exit codes: 0 within the bar, 1 not, 2 not resolved (the machine is too noisy).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ratios import exit_code, interval, table, verdict

BAR = 1.3  # DESIGN, "Budgets and promises"
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

    def report(what: str, cost: Callable[[Cost], float]) -> list[object]:
        took, base, again = ([cost(row[name]) for row in rounds] for name in COMMANDS)
        ratio, null = interval(took, base, chance), interval(again, base, chance)
        said = verdict(ratio, null, BAR)
        milliseconds = (f"{1000 * statistics.median(values):.0f} ms" for values in (took, base))
        return [what, *milliseconds, ratio, null, BAR, said]

    lines = [report("wall", lambda cost: cost.wall_s), report("CPU", lambda cost: cost.cpu_s)]
    print(f"{args.rounds} rounds, 95 % intervals\n")
    print(table(["clock", "torchtop --help", "import typer", "ratio", "null", "bar", "verdict"], lines))
    return exit_code(str(line[-1]) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
