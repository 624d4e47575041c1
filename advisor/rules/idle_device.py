"""idle-device: the GPU has nothing to run for much of the time.

Defining inequality: 1 - utilization >= 0.30 (0.50: warn), by the low end of its interval, while steps go on.

## What it does
Takes the readings between the first and the last step of the window, of the busiest GPU that the slowest rank uses.
Utilization is the share of time in which any kernel ran, so the idle share is a lower bound.

## Why it matters
It is the time that a cure of the cause can give back at most. It is a symptom: where a rule that names the cause finds
one, this one is silent.

## When it is wrong
A job that does not train may be idle because nobody asks it anything: not judged. Reinforcement learning whose
environment computes on the CPU is idle by design. Validation on the CPU and long checkpoints count as idle.

## Source
torch-tb-profiler 0.4.3 `profiler/data.py` (below 50 %); TraceML 0.5.0 `diagnostics/system/policy.py` (bands of 30 % and
70 %, "symptom, not cause"); gpu-idle 0.1.0 (80 % busy and more: nothing). Recorded from published logs, not yet seen
live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import Gpu, idle, of_rank, sure
from torchtop.advisor.judgement import Abstain, Judgement, measured
from torchtop.advisor.statistics import Interval
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "idle-device"
NEEDS = ("gpu", "training", "steps")
REMEDIES = ("bigger-batch", "compile-blocks")
LINE = "sync"  # its stacks are what host-sync judges by
MIN_STEPS = 3  # enough to know that steps go on: the mean is that of the readings
INFO = 0.30  # share of time idle: TraceML's "moderate", and well above gpu-idle's 20 %
WARN = 0.50  # share of time idle: torch-tb-profiler's "low utilization"


def check(seen: Seen) -> Judgement:
    """Judge the busiest GPU of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    gpus = of_rank(seen, slow)
    if isinstance(gpus, Abstain):
        return gpus
    gpu, rest = _busiest(gpus)
    if isinstance(rest, Abstain):
        return rest
    if rest.low < INFO:
        return None
    step_s = slow.plain_mean_s or 0.0
    return Finding(
        code=CODE,
        severity="warn" if rest.low >= WARN else "info",
        confidence=sure(len(gpu.readings)),
        recoverable_s=rest.mean * step_s,
        share=rest.mean,
        evidence=(
            measured("no kernel runs", rest, "of the time", gpu.span_s),
            measured("time idle", rest.times(step_s), "s/step", gpu.span_s),
        ),
        summary=f"{gpu.label} has nothing to run for {rest.mean:.0%} of the time",
        where=gpu.where,
        remedies=REMEDIES,
    )


def _busiest(gpus: tuple[Gpu, ...]) -> tuple[Gpu, Interval | Abstain]:
    judged = [(gpu, gpu.mean("util", idle)) for gpu in gpus]
    known = [(gpu, rest) for gpu, rest in judged if isinstance(rest, Interval)]
    return min(known, key=lambda one: one[1].mean) if known else judged[0]
