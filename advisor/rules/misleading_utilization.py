"""misleading-utilization: the GPU looks busy and draws little power.

Defining inequality: utilization > 0.80 by the low end of its interval, and power < 0.40 of the limit by its high end.

## What it does
Compares the two over the readings in which steps went on. Utilization says that any kernel ran, not how much of the
chip it used; power says how much was done.

## Why it matters
Many small kernels, a batch too small to fill the chip, or a collective that waits for another rank show 100 %. Who
reads only utilization takes such a job for a fast one.

## When it is wrong
Work that only moves memory draws less than arithmetic: where memory is accessed for half of the time or more it is only
noted (info). A card whose limit is far above what any job draws has a share that means little. A MIG instance has no
power reading of its own.

## Source
nvsonar 2.4.0 `analysis/bottleneck.py` (utilization > 80 %, power < 40 % of the limit). Recorded from published logs,
not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import first_of, of_limit, sure
from torchtop.advisor.judgement import Abstain, Judgement, measured
from torchtop.advisor.statistics import Interval
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "misleading-utilization"
NEEDS = ("gpu", "steps")
REMEDIES = ("bigger-batch", "compile-blocks", "cuda-graphs")
MIN_STEPS = 3  # enough to know that steps go on: the means are those of the readings
BUSY = 0.80  # utilization above which the GPU counts as busy (nvsonar)
POWER = 0.40  # share of the power limit below which little is done (nvsonar)
MEMORY = 0.50  # share of time in which memory is accessed: from there on low power is that of moving data


def check(seen: Seen) -> Judgement:
    """Judge the first GPU of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    util = gpu.mean("util", lambda one: one.util)
    power = gpu.mean("power_w", of_limit)
    if isinstance(util, Abstain):
        return util
    if isinstance(power, Abstain):
        return power
    if util.low <= BUSY or power.high >= POWER:
        return None
    memory = gpu.mean("memory_util", lambda one: one.memory_util)
    moves = isinstance(memory, Interval) and memory.high >= MEMORY
    evidence = [
        measured("any kernel runs", util, "of the time", gpu.span_s),
        measured("power", power, "of the limit", gpu.span_s),
    ]
    if isinstance(memory, Interval):
        evidence.append(measured("memory is accessed", memory, "of the time", gpu.span_s))
    return Finding(
        code=CODE,
        severity="info" if moves else "warn",
        confidence=sure(len(gpu.readings)),
        recoverable_s=None,
        share=max(util.mean - power.mean, 0.0),
        evidence=tuple(evidence),
        summary=f"{gpu.label} shows {util.mean:.0%} utilization, but draws {power.mean:.0%} of its power limit"
        + (": it mostly moves memory" if moves else ": kernels use little of it, or wait"),
        where=gpu.where,
        remedies=REMEDIES,
    )
