"""Attach and detach a thousand times while a program computes something whose result is known, bit for bit.

First a training: unwatched once, for the SHA-256 of its losses and weights, then again and again while it is attached
to and left, until all cycles are done. Then the same for programs that compare every result themselves. The watching
lasts 0 to 50 ms, at random; one cycle in ten ends as if the monitor had been killed. Exit code 1 if a program died, was
left with something of ours, or came to another result.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ratios import table
from targets import start

from tests.conftest import Target
from tests.cycle import cycle
from torchtop.attach import rendezvous
from torchtop.attach.connect import attach
from torchtop.errors import TorchtopError

WATCH_S = 0.05
ABRUPT = 0.1  # share of cycles
GONE_S = 10.0  # s after which an agent without a monitor must have taken itself out
KINDS = ("matmul", "malloc", "threads")
STEPS = 4000  # of one training: some hundred cycles


def cut_off(pid: int, watch_s: float) -> None:
    """Attach, and be gone without a word; return once the agent has noticed."""
    connection = attach(pid, timeout_s=30.0)
    time.sleep(watch_s)
    connection.channel.socket.close()
    deadline = time.monotonic() + GONE_S
    while rendezvous.existing_meetings(pid):
        if time.monotonic() > deadline:
            raise AssertionError(f"the agent is still there {GONE_S:g} s after its monitor has gone")
        time.sleep(0.002)


def torment(target: Target, cycles: int, chance: random.Random, tally: Counter[str], notes: list[str]) -> int:
    """Attach and detach until `cycles` are done or the target has ended; returns how many were."""
    done = 0
    while done < cycles and target.process.poll() is None:
        watch_s = chance.uniform(0, WATCH_S)
        try:
            if chance.random() < ABRUPT:
                cut_off(target.pid, watch_s)
                tally["cut off"] += 1
            else:
                cycle(target.pid, watch_s)
            done += 1
        except (TorchtopError, OSError, AssertionError, IndexError) as error:
            try:
                target.process.wait(timeout=2)  # a training that comes to its end refuses visitors, and may
            except subprocess.TimeoutExpired:
                tally["failed cycles"] += 1
                done += 1
                if len(notes) < 20:
                    notes.append(f"{type(error).__name__}: {error}")
    tally["cycles"] += done
    return done


def ended(target: Target, tally: Counter[str], notes: list[str]) -> dict[str, Any] | None:
    """Its truth file, or None if it died."""
    try:
        return target.finish()
    except (AssertionError, subprocess.TimeoutExpired, OSError) as error:
        tally["deaths"] += 1
        notes.append(str(error)[-2000:])
        target.process.kill()
        return None


def training(folder: Path, cycles: int, chance: random.Random, tally: Counter[str], notes: list[str]) -> None:
    """`cycles` on trainings that are compared with an unwatched one."""
    arguments = ("train.py", "--model", "transformer", "--small", "--steps", str(STEPS))

    def hashes(truth: dict[str, Any]) -> tuple[str, str]:
        return truth["losses_sha256"], truth["weights_sha256"]

    expected = hashes(start(folder / "unwatched", *arguments).finish())
    done = 0
    while done < cycles:
        tally["runs"] += 1
        target = start(folder / f"watched-{tally['runs']}", *arguments).wait_ready()
        done += torment(target, cycles - done, chance, tally, notes)
        truth = ended(target, tally, notes)
        if truth is not None:
            tally["steps or iterations"] += truth["steps"]
            tally["wrong results"] += hashes(truth) != expected
            notes += truth["errors"]


def exact(kind: str, folder: Path, cycles: int, chance: random.Random, tally: Counter[str], notes: list[str]) -> None:
    """`cycles` on one program that compares its own results."""
    tally["runs"] += 1
    target = start(folder / kind, "exact.py", "--kind", kind, "--seconds", "86400").wait_ready()
    torment(target, cycles, chance, tally, notes)
    (target.folder / "stop").touch()
    truth = ended(target, tally, notes)
    if truth is not None:
        tally["steps or iterations"] += truth["iterations"]
        tally["wrong results"] += truth["wrong"]
        notes += truth["errors"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1000, help="attaches and detaches of each kind of program")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    columns = ("cycles", "cut off", "runs", "steps or iterations", "deaths", "wrong results", "failed cycles")
    lines, notes, bad = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("training", *KINDS):
            chance, tally, began = random.Random(args.seed), Counter[str](), time.monotonic()
            if kind == "training":
                training(Path(folder), args.cycles, chance, tally, notes)
            else:
                exact(kind, Path(folder), args.cycles, chance, tally, notes)
            lines.append([kind, *(tally[column] for column in columns), f"{time.monotonic() - began:.0f} s"])
            print(f"{kind}: {dict(tally)}", file=sys.stderr, flush=True)
            bad += tally["deaths"] + tally["wrong results"] + tally["failed cycles"]
    print(table(["program", *columns, "took"], lines))
    for note in notes:
        print(f"\n{note}")
    return 1 if bad or notes else 0


if __name__ == "__main__":
    sys.exit(main())
