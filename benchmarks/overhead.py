"""What the probe costs the steps of a job: ratios against bare steps, in one process, with a null control.

Blocks of steps follow one another in random order: bare, bare again (the null control), resident (attached, never
armed), the default budget, and every step armed. Each watched block attaches a `Watch` of its own and a thread that
drains it as the agent does. Measured is what comes after attaching: the steady state.

At the default budget one step in N is armed, and N may be thousands. A block therefore holds whole cycles of N steps,
or, where even one would take longer than `CYCLE_S`, armed steps and the others are measured apart and put together as
1 : N-1. Anything else would count armed steps too often or not at all.

Two clocks: wall, and CPU of the whole process, which the machine's other load hardly touches and which counts the
draining thread in full. Exit codes: 0 all within their bars, 1 not, 2 not resolved (the machine is too noisy).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from ratios import Interval, exit_code, interval, table, trimmed_mean, verdict
from torch import Tensor, nn

from torchtop.probe.teller import Teller
from torchtop.probe.watch.budget import FEWEST, Budget
from torchtop.probe.watch.watch import Watch

TICK_S = 0.1  # between two visits of the agent (agent.py, _TICK_S)
NEVER = 1 << 60
CYCLE_S = 2.0  # longest block that is made to hold a whole cycle of N steps
SPARSE = 8  # for calibration: steps per armed one, so that hooks are as cold as they usually are
BARS = {"resident": 1.005, "default budget": 1.01}  # DESIGN, "Budgets and promises"
BARE, AGAIN, RESIDENT, DEFAULT, EVERY = "bare", "bare again", *BARS, "every step"
EVERY_IN = 3  # rounds for one with a block of armed steps: they only inform


Loss = Callable[[Tensor], Tensor]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, steps, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


def transformer(width: int = 256, batch: int = 8, length: int = 128) -> tuple[nn.Module, Tensor, Loss]:
    """Six layers, width 256, 8 sequences of 128 tokens."""
    model = nn.Sequential(nn.Embedding(256, width), *[Block(width) for _ in range(6)], nn.LayerNorm(width))
    model.append(nn.Linear(width, 256))
    tokens = torch.randint(256, (batch, length))
    return model, tokens, lambda out: F.cross_entropy(out.flatten(0, 1), tokens.flatten())


def twin() -> tuple[nn.Module, Tensor, Loss]:
    """The modules of `transformer` with hardly any numbers in them: the probe's part is no longer lost in the noise."""
    return transformer(width=16, batch=1, length=8)


def single() -> tuple[nn.Module, Tensor, Loss]:
    """A single small layer: a step in which what stays resident is most of the work."""
    return nn.Sequential(nn.Linear(8, 8)), torch.randn(1, 8), lambda out: out.square().mean()


def tiny() -> tuple[nn.Module, Tensor, Loss]:
    """200 layers so small that calling them is all the work."""
    return nn.Sequential(*[nn.Linear(8, 8) for _ in range(200)]), torch.randn(32, 8), lambda out: out.square().mean()


class Job(NamedTuple):
    """One step function, and how many seconds a block of it should last."""

    name: str
    step: Callable[[], None]
    training: bool
    block_s: float


def job(name: str, build: Callable[[], Any], training: bool, block_s: float) -> Job:
    torch.manual_seed(0)
    model, x, loss = build()
    if not training:
        model.eval()

        def infer() -> None:
            with torch.inference_mode():
                model(x)

        return Job(name, infer, training, block_s)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def train() -> None:
        optimizer.zero_grad()
        loss(model(x)).backward()
        optimizer.step()

    return Job(name, train, training, block_s)


class Counted(Budget):  # type: ignore[misc]
    """A budget that keeps what its armed steps told it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, int, int, float]] = []

    def armed_step(self, marks: Any, step_s: float) -> None:
        """(s inside our hooks, module calls, node hooks, s by its account) of each armed step."""
        self.seen.append((marks.spent_s, marks.calls, marks.taps, sum(self.cost_of(marks))))
        super().armed_step(marks, step_s)


class Cost(NamedTuple):
    """Seconds per step."""

    wall_s: float
    cpu_s: float


def timed(step: Callable[[], None], count: int) -> Cost:
    """The mean step of `count`."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    return Cost((time.perf_counter() - wall_s) / count, (time.process_time() - cpu_s) / count)


class Probe:
    """The probe in this process: what the training thread carries, and the thread that drains it."""

    def __init__(self, budget: Budget, job: Job) -> None:
        self.watch = Watch(torch, budget)
        self._job = job
        self._teller = Teller(lambda kind, body: json.dumps({"type": kind, **body}).encode())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drain)
        assert self.watch.attach()
        if not job.training:
            # As `tick` does once it is clear that no optimizer steps.
            root_call = self.watch.no_optimizer.root_call
            root_call.seek()
            while not root_call.active:
                job.step()
                root_call.tick()

    def begin(self) -> None:
        """Past what only attaching costs: the first armed step, which gets to know the modules, and telling of them."""
        clock = self.watch.clock
        for _ in range(4):
            self._job.step()
            self.watch.tick()
        assert clock.begun >= 2
        self._teller.tell(self.watch)
        self._thread.start()

    def _drain(self) -> None:
        while not self._over.wait(TICK_S):
            self.watch.tick()
            self._teller.tell(self.watch)

    def end(self) -> None:
        """Take all of it out."""
        self._over.set()
        self._thread.join()
        while not self.watch.detach():
            time.sleep(0.001)
        assert not self.watch.left_behind, self.watch.left_behind
        assert not self.watch.errors


@contextmanager
def attached(budget: Budget, job: Job) -> Iterator[Watch]:
    """A probe in place and past its beginnings."""
    probe = Probe(budget, job)
    probe.begin()
    try:
        yield probe.watch
    finally:
        probe.end()


def block(job: Job, condition: str, steps: int, budget: Budget) -> Cost:
    """Seconds per step of one block, after attaching; `budget` is that of all blocks at the default."""
    gc.collect()
    if condition in (BARE, AGAIN):
        job.step()
        return timed(job.step, steps)
    if condition != DEFAULT:
        fixed = Budget()
        fixed.fix(NEVER if condition == RESIDENT else 1)
        with attached(fixed, job):
            return timed(job.step, steps)
    settled = budget.every
    budget.fix(1)
    with attached(budget, job):
        armed = timed(job.step, 1)
        budget.fix(None)
        budget.every = settled
        job.step()  # the armed step, or the one after it, is accounted for, and `every` adapts
        every = budget.every
        cycles = steps * 2 // every or int(every * armed.wall_s < CYCLE_S)
        if cycles:
            return timed(job.step, cycles * every)
        others = timed(job.step, steps)
        return Cost(*((a + (every - 1) * other) / every for a, other in zip(armed, others, strict=True)))


def rounds_of(job: Job, seconds: float, chance: random.Random) -> tuple[list[dict[str, Cost]], Budget]:
    """Blocks of all conditions in random order, again and again for `seconds`."""
    steps = max(FEWEST, round(job.block_s / timed(job.step, 10).wall_s))
    budget = Budget()
    for _ in range(3):
        block(job, DEFAULT, 2, budget)
    rounds: list[dict[str, Cost]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(rounds) < EVERY_IN:
        conditions = [BARE, AGAIN, RESIDENT, DEFAULT] + [EVERY] * (len(rounds) % EVERY_IN == 0)
        order = chance.sample(conditions, k=len(conditions))
        rounds.append({condition: block(job, condition, steps, budget) for condition in order})
    return rounds, budget


def rows_of(job: Job, rounds: list[dict[str, Cost]], budget: Budget, chance: random.Random) -> list[list[object]]:
    """Lines of the table: one per condition and clock."""
    lines: list[list[object]] = []
    for condition in (RESIDENT, DEFAULT, EVERY):
        for clock, of in (("wall", lambda cost: cost.wall_s), ("CPU", lambda cost: cost.cpu_s)):
            with_it = [row for row in rounds if condition in row]
            base = [(of(row[BARE]) + of(row[AGAIN])) / 2 for row in with_it]
            ratio = interval([of(row[condition]) for row in with_it], base, chance)
            null = interval([of(row[AGAIN]) for row in rounds], [of(row[BARE]) for row in rounds], chance)
            bar = BARS.get(condition)
            said = verdict(ratio, null, bar) if bar else "-"
            bare_ms = f"{1000 * statistics.median(base):.2f} ms"
            which = f"{condition} (N = {budget.every})" if condition == DEFAULT else condition
            lines.append([job.name, which, clock, bare_ms, ratio, null, len(with_it), bar or "-", said])
    return lines


class Calibration(NamedTuple):
    """Microseconds per armed step of one job."""

    added_us: float
    inside_us: float
    calls: float
    taps: float
    account_us: float


def calibrated(job: Job, seconds: float) -> Calibration:
    """What one armed step in `SPARSE` takes longer than those around it, and what the budget thinks of it."""
    budget = Counted()
    budget.fix(SPARSE)
    added: list[float] = []
    with attached(budget, job) as watch:
        budget.seen.clear()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or len(added) < 5:
            took, armed = [], 0.0
            for _ in range(SPARSE):
                before = watch.clock.marks is not None
                cost = timed(job.step, 1).cpu_s
                if before if job.training else watch.clock.marks is not None:
                    armed = cost
                else:
                    took.append(cost)
            added.append(armed - statistics.median(took))
    inside, calls, taps, account = (trimmed_mean(column) for column in zip(*budget.seen, strict=True))
    return Calibration(1e6 * trimmed_mean(added), 1e6 * inside, calls, taps, 1e6 * account)


def resident_us(job: Job, seconds: float, chance: random.Random) -> Interval:
    """CPU microseconds that being resident adds to a step."""
    added = []
    steps = max(FEWEST, round(0.1 / timed(job.step, 10).wall_s))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(added) < 5:
        order = chance.sample([BARE, RESIDENT], k=2)
        cost = {condition: block(job, condition, steps, Budget()).cpu_s for condition in order}
        added.append(1e6 * (cost[RESIDENT] - cost[BARE]))
    means = sorted(trimmed_mean(chance.choices(added, k=len(added))) for _ in range(1000))
    return Interval(trimmed_mean(added), means[25], means[975])


def calibrate(jobs: list[Job], twins: dict[str, tuple[float, Job]], seconds: float, chance: random.Random) -> None:
    """Print what an armed and a resident step cost in microseconds, and what the constants of budget.py should be.

    jobs: the same modules without (inference) and with (training) graph nodes. twins: seconds of a bare step of the
    full-sized job, and the small job that stands for it.
    """
    lines, derived = [], []
    call_us = None
    small = {name: job for name, (_, job) in twins.items()}
    for each in [*jobs, *small.values()]:
        told = calibrated(each, seconds)
        resident = resident_us(each, seconds, chance)
        # Inference first: without node hooks what torch adds around the forward hooks stands alone.
        around = "-" if each.training else f"{told.added_us / told.inside_us - 1:.2f}"
        node = "-"
        if not each.training:
            call_us = (told.added_us - told.inside_us) / told.calls
        elif call_us is not None and told.taps:
            node = f"{(told.added_us - told.inside_us - call_us * told.calls) / told.taps:.1f}"
        share = f"{told.added_us / told.account_us:.2f}"
        call = "-" if each.training or call_us is None else f"{call_us:.1f}"
        said = f"{resident.middle:.0f} [{resident.low:.0f}, {resident.high:.0f}]"
        lines.append([each.name, *(f"{value:.0f}" for value in told), share, around, call, node, said])
        for name, (bare_s, one) in twins.items():
            if one is each:
                most = 1 + 1e-6 * resident.high / bare_s
                armed = 1e-6 * told.added_us / FEWEST / bare_s
                derived.append([name, f"{1000 * bare_s:.0f} ms", f"{most:.5f}", f"{most + armed:.5f}"])
    print(f"\nOne armed step in {SPARSE}: CPU us that it took longer, and the budget's account of it\n")
    head = ["job", "added", "inside our hooks", "module calls", "node hooks", "account", "added / account"]
    head += ["around / inside", "around a call", "around a node hook", "resident, every step"]
    print(table(head, lines))
    ones = [job(f"one layer, {what}", single, what == "training", 0.1) for what in ("inference", "training")]
    print(
        "\nWhat stays resident, CPU us of every step: "
        + "; ".join(
            f"{each.name} {resident.middle:.1f} [{resident.low:.1f}, {resident.high:.1f}]"
            for each, resident in ((each, resident_us(each, seconds, chance)) for each in ones)
        )
    )
    print(f"\nSmall twins of the transformer, put beside its full step: an estimate, with one step in {FEWEST} armed\n")
    print(table(["job", "bare step", "resident", "default budget"], derived), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of nine; seldom resolves anything")
    parser.add_argument("--calibrate", action="store_true", help="only measure the constants of budget.py")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    jobs = {
        job("200 tiny layers, inference", tiny, False, 0.4): 90.0,
        job("200 tiny layers, training", tiny, True, 0.4): 90.0,
        job("transformer, inference", transformer, False, 0.6): 100.0,
        job("transformer, training", transformer, True, 1.5): 140.0,
    }
    bare_s = {each.name: min(timed(each.step, 1).cpu_s for _ in range(10)) for each in jobs}
    lines: list[list[object]] = []
    print(f"steps on one thread; load average at the start {os.getloadavg()[0]:.2f}\n", flush=True)
    for each, seconds in jobs.items() if not args.calibrate else ():
        lines += rows_of(each, *rounds_of(each, seconds / 10 if args.quick else seconds, chance), chance)
    if lines:
        head = ["job", "condition", "clock", "bare step", "ratio [95 %]", "null [95 %]", "rounds", "bar", "verdict"]
        print(table(head, lines), flush=True)
    first, second, *large = jobs
    twins = {each.name: (bare_s[each.name], job(f"{each.name}: twin", twin, each.training, 0.1)) for each in large}
    calibrate([first, second], twins, 1.5 if args.quick else 5.0, chance)
    return exit_code(str(line[-1]) for line in lines if line[-1] != "-")


if __name__ == "__main__":
    sys.exit(main())
