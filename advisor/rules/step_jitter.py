"""step-jitter: some steps take far longer than the others.

Defining inequality: of plain steps of one batch size, without their waiting for data, collector and checkpoints, each
by the median of the 40 or more around it: p95 >= 1.5, or of 300 steps and more p99 >= 2, by the low end of their 95 %
order-statistic interval, and >= 1 ms above the median.

## What it does
Compares slow steps with those around them and tells which phase is longer in them. Steps whose backward pass and rest
grow together have inputs of different size.

## Why it matters
Time above the median is lost: in a job of several ranks every rank waits for the slowest step.

## When it is wrong
Inputs that differ in size, and steps that do more every so often, are work and not loss: that is told as info. A
machine shared with others makes slow steps, too: see host-contended; with its thread waiting for cores the rule
abstains. A job that slows down and stays slow does not jitter. Jobs that do not train are not judged: between two
answers a server waits for the next request. While a GPU is busy for 80 % of the time or more, the host's steps are not
the device's.

## Source
gpuprof 0.7.1: p99 / p50 >= 2; pytscope 0.2.1: p95 / p50 >= 1.5. Warn only where the time above the median is >= 10 % of
all (TraceML 0.5.0's band for lost time).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torchtop.advisor import place
from torchtop.advisor.cores import run_delay
from torchtop.advisor.interruptions import interrupted_s
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.statistics import median, percentile, share
from torchtop.advisor.waiting import hidden
from torchtop.record import StepRow
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "step-jitter"
NEEDS = ("steps", "training")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 40  # with fewer the interval of the 95th percentile has no low end
P95 = 1.5  # times the median
P99 = 2.0  # times the median
MIN_P99_STEPS = 300  # with fewer the low end of the 99th percentile is that of a few steps
WARN = 0.10  # share of the time above the median, in slow steps
CONTENDED = 0.05  # share of the time without a core: then it is the machine that jitters
_LATEST = 2_000  # steps: enough for both percentiles, and 1 ms to go through them
_ALIKE = 0.8  # of the backward pass and the rest, how far they rise and fall together: then inputs differ in size
_SAME = 0.6  # of the distances between slow steps that are equal: then the loop has it so
_VARIES = 0.10  # deviation by mean of either of them
_LEAST_S = 1e-3  # s above the median: less is the scheduler's tick


class _Step(NamedTuple):
    """s of one step; work: without data, collector and checkpoints."""

    work: float
    backward: float
    optimizer: float
    rest: float


def check(seen: Seen) -> Judgement:
    """Judge the plain steps of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    rows = _comparable(slow)
    if len(rows) < MIN_STEPS:
        return Abstain(f"batches differ in size: {len(rows)} of {MIN_STEPS} steps are comparable")
    lost_s = interrupted_s(slow, rows)
    work = [max(row.step_s - (row.data_s or 0.0) - lost, 0.0) for row, lost in zip(rows, lost_s, strict=True)]
    around = _around(work)
    times = [one / usual if usual > 0 else 1.0 for one, usual in zip(work, around, strict=True)]
    ordered = sorted(times)
    usual, p95, p99 = median(work), _low(ordered, 0.95), _low(ordered, 0.99)
    of_twenty = p95 >= P95
    rarely = len(work) >= MIN_P99_STEPS and p99 >= P99
    if not (of_twenty or rarely) or (p99 - 1) * usual < _LEAST_S:
        return None
    long = [one >= P95 for one in times]
    above = [one - usual if slow else 0.0 for one, usual, slow in zip(work, around, long, strict=True)]
    lost = share(above, [row.step_s for row in rows])
    if lost is None:
        return None
    if (unexposed := hidden(seen, slow)) is not False:
        return unexposed if isinstance(unexposed, Abstain) else None
    steps = [_step(row, one) for row, one in zip(rows, work, strict=True)]
    delay = run_delay(slow)
    if delay is not None and delay.mean >= CONTENDED:
        return Abstain(f"steps vary, while the training thread had no core for {delay.mean:.0%} of the time")
    sizes = _sizes_differ(steps)
    every = _in_turns(long)
    phase = _longer(steps, long)
    mean_s = sum(row.step_s for row in rows) / len(rows)
    often, part = ("twenty", 0.95) if of_twenty else ("a hundred", 0.99)
    return Finding(
        code=CODE,
        severity="warn" if lost.low >= WARN and not sizes and every is None else "info",
        confidence="medium",
        recoverable_s=lost.mean * mean_s,
        share=min(lost.mean, 1.0),
        evidence=(
            number("median of the work", usual, "s", slow.window_s),
            number("95th percentile, low end", p95, "times the median around", slow.window_s),
            number("99th percentile, low end", p99, "times the median around", slow.window_s),
            measured("above the median in slow steps", lost, "of the time", slow.window_s),
        ),
        summary=f"one step in {often} takes {percentile(ordered, part):.1f} times the median or more"
        + (": inputs differ in size" if sizes else f": {phase} is longer then")
        + (f", every {every} steps" if every is not None else ""),
        where=place.of(slow) | {"phase": None if sizes else phase},
        remedies=REMEDIES,
    )


def _comparable(slow: RankSeen) -> list[StepRow]:
    """Those with as many micro-steps and samples as most have."""
    rows = slow.plain[-_LATEST:]
    usual = Counter((row.micro_steps, row.samples) for row in rows).most_common(1)[0][0]
    return [row for row in rows if (row.micro_steps, row.samples) == usual]


def _step(row: StepRow, work: float) -> _Step:
    backward, optimizer = row.backward_s or 0.0, row.optimizer_s or 0.0
    return _Step(work, backward, optimizer, max(work - backward - optimizer, 0.0))


def _around(work: Sequence[float]) -> list[float]:
    """Of each step the median of the `MIN_STEPS` or more in a row that it is one of: what changes once and stays is
    another level, and no jitter."""
    stretches = max(len(work) // MIN_STEPS, 1)
    cuts = [len(work) * at // stretches for at in range(stretches + 1)]
    return [middle for a, b in pairwise(cuts) for middle in [median(work[a:b])] * (b - a)]


def _low(ordered: Sequence[float], part: float) -> float:
    """Low end of the 95 % interval of a percentile, by order statistics (binomial, normal approximation)."""
    count = len(ordered)
    at = math.floor(count * part - 1.96 * math.sqrt(count * part * (1 - part)))
    return ordered[min(max(at - 1, 0), count - 1)]


def _sizes_differ(steps: Sequence[_Step]) -> bool:
    """Whether backward pass and rest rise and fall together, as with inputs of different length."""
    count = len(steps)
    a, b = [step.backward for step in steps], [step.rest for step in steps]
    mean_a, mean_b = sum(a) / count, sum(b) / count
    var_a = sum((one - mean_a) ** 2 for one in a) / count
    var_b = sum((one - mean_b) ** 2 for one in b) / count
    if mean_a <= 0 or mean_b <= 0 or min(math.sqrt(var_a) / mean_a, math.sqrt(var_b) / mean_b) < _VARIES:
        return False
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / count
    return both / math.sqrt(var_a * var_b) >= _ALIKE


def _in_turns(long: Sequence[bool]) -> int | None:
    """Every how many steps a slow one comes, where that is regular: some steps are meant to do more."""
    slow = [at for at, one in enumerate(long) if one]
    gaps = Counter(b - a for a, b in pairwise(slow))
    if not gaps:
        return None
    gap, count = gaps.most_common(1)[0]
    return gap if gap > 1 and count >= _SAME * (len(slow) - 1) else None


def _longer(steps: Sequence[_Step], long: Sequence[bool]) -> str:
    """The part of a step that slow ones have more of."""
    parts = {
        "the backward pass": [step.backward for step in steps],
        "the optimizer": [step.optimizer for step in steps],
        "the forward pass, or what lies between the phases,": [step.rest for step in steps],
    }

    def excess(name: str) -> float:
        usual = median(parts[name])
        return sum(one - usual for one, slow in zip(parts[name], long, strict=True) if slow)

    return max(parts, key=excess)
