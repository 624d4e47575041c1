"""What one look of the advisor costs: freezing the window and asking every rule, for 2,000 layers x 8 ranks.

Each rank has 4,000 steps, 12 armed ones, 600 readings of its process and of each of its 16 loader workers, and runs
under DistributedDataParallel. Before each look every rank sends 20 steps more, as in one second of a job with steps of
50 ms, and the processes are read once; that is not counted. Of layers those of the slowest rank are asked for, which
are made once for each of its armed steps and shown on the screen too: what a look takes that comes right after one is
told by itself. CPU time of this process. Prints the slowest rules as well. Exit codes: 0 within the bar, 1 not.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from ratios import FAIL, PASS, exit_code, table

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import many_layers
from torchtop.advisor.engine import judge
from torchtop.advisor.registry import RULES
from torchtop.frozen import freeze
from torchtop.probe import wire
from torchtop.record import HostSample, ProbeMessage, ProcessSample
from torchtop.seen import Seen
from torchtop.window import Window

RANKS = tuple(range(4001, 4009))
LAYERS = 2_000
STEPS = 4_000  # rows of a rank that are judged
ARMED = 12
READINGS = 600  # at one a second ten minutes
WORKERS = 16  # of a rank
STEP_S = 0.05
MORE = 20  # steps between two looks
BAR_S = 0.010  # s of one look; DESIGN 11
GIB = 1 << 30


def say(window: Window, pid: int, body: many_layers.Message) -> None:
    """Hand a message to the window as if the probe of `pid` had sent it."""
    window.take(ProbeMessage(t=0.0, rank_pid=pid, type=body["type"], body=body))


def facts(rank: int) -> dict[str, Any]:
    """Of a DDP rank with AdamW on the CPU."""
    optimizer = {"class": "AdamW", "module": "torch.optim.adamw", "groups": 1, "parameters": 300}
    return {
        **many_layers.facts()["facts"],
        "roots": ["DistributedDataParallel"],
        "dtypes": ["float32"],
        "optimizers": [optimizer],
        "find_unused_parameters": False,
        "synced_passes": 1.0,
        "grads_kept": False,
        "distributed": {"backend": "gloo", "rank": rank, "world_size": len(RANKS)},
        "loader": {"workers": WORKERS, "batch_size": 32},
    }


def rows(t_end: float, count: int, chance: random.Random) -> many_layers.Message:
    """`count` steps with a wait in backward, the last of which ended at `t_end`."""
    body = many_layers.steps(t_end, STEP_S, count)
    body["rows"] = [[*row, 0.002 * chance.random()][: len(wire.STEP_COLUMNS)] for row in body["rows"]]
    return body


def window_of_eight(chance: random.Random) -> Window:
    """What the session holds after 200 s."""
    model = many_layers.model(LAYERS)
    window = Window(RANKS, 0.0)
    for number, pid in enumerate(RANKS):
        for body in many_layers.modules(model):
            say(window, pid, body)
        say(window, pid, {**many_layers.facts(), "facts": facts(number)})
        say(window, pid, rows(STEPS * STEP_S, STEPS, chance))
        for step in range(ARMED):
            say(window, pid, many_layers.armed(model, step, STEPS * STEP_S + step, STEP_S))
    for t in range(READINGS):
        read(window, STEPS * STEP_S - READINGS + t)
    return window


def read(window: Window, t: float) -> None:
    """What the machine's collectors say at `t`: of all processes of the job, and of the host."""
    for pid in RANKS:
        for process in (pid, *(100 * pid + worker for worker in range(WORKERS))):
            window.take(ProcessSample(t, process, pid, "R", 1.0, GIB, 8, 0.0, 0.0, 3.0, None, None, 0.01, 0.0))
    window.take(HostSample(t, 16, 0.5, 8.0, 64 * GIB, 40 * GIB, 0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def look(window: Window, now: float) -> Seen:
    """Freeze it, as the session does."""
    ranks = list(enumerate(RANKS))
    return freeze(
        window,
        [(pid, rank) for rank, pid in ranks],
        now,
        now,
        world_size=len(RANKS),
        mode="training",
        slowest_pid=RANKS[-1],
        devices_reason="no NVIDIA driver",
    )


def spent(what: Callable[[], Any]) -> tuple[float, Any]:
    """(s of CPU, what it returned)."""
    began = time.process_time()
    found = what()
    return time.process_time() - began, found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=40)
    looks = parser.parse_args().looks
    chance = random.Random(1)
    window = window_of_eight(chance)
    now = STEPS * STEP_S + ARMED
    look(window, now)
    gc.collect()
    gc.freeze()
    freezing, judging, each, after_armed = [], [], dict[str, list[float]](), []
    verdict = judge(look(window, now))
    for number in range(looks):
        now += MORE * STEP_S
        read(window, now)
        for pid in RANKS:
            say(window, pid, rows(now, MORE, chance))
        freeze_s, seen = spent(partial(look, window, now))
        judge_s, verdict = spent(partial(judge, seen))
        freezing.append(freeze_s)
        judging.append(judge_s)
        again = look(window, now)
        for rule in RULES:
            rule_s, _ = spent(partial(judge, again, [rule]))
            each.setdefault(rule.CODE, []).append(rule_s)
        if number < ARMED:
            for pid in RANKS:
                say(window, pid, many_layers.armed(many_layers.model(LAYERS), ARMED + number, now, STEP_S))
            after_armed.append(spent(partial(look, window, now))[0])
    both = [a + b for a, b in zip(freezing, judging, strict=True)]
    said = PASS if median(judging) <= BAR_S else FAIL
    lines = [
        (f"all {len(RULES)} rules", *_ms(judging), f"{1000 * BAR_S:g}", said),
        ("freezing the window", *_ms(freezing), "", ""),
        ("the same, right after an armed step of every rank", *_ms(after_armed), "", ""),
        ("both", *_ms(both), f"{1000 * BAR_S:g}", PASS if median(both) <= BAR_S else FAIL),
    ]
    slowest = sorted(each, key=lambda code: -median(each[code]))[:6]
    lines += [(code, *_ms(each[code]), "", "") for code in slowest]
    print(f"{LAYERS} layers x {len(RANKS)} ranks, {STEPS} steps and {WORKERS} workers a rank, {looks} looks; ms of CPU")
    print(f"findings: {', '.join(one.code for one in verdict.findings) or 'none'}; abstained: {len(verdict.abstained)}")
    print(table(["what", "median", "worst", "bar", "verdict"], lines))
    return exit_code([line[-1] for line in lines if line[-1]])


def _ms(seconds: list[float]) -> tuple[str, str]:
    return f"{1000 * median(seconds):.2f}", f"{1000 * max(seconds):.2f}"


if __name__ == "__main__":
    sys.exit(main())
