"""host-sync: the training thread waits for the GPU, and then the GPU for the training thread.

Defining inequality: the smaller of (share of samples of the training thread at one line that waits for the device,
share of time in which the GPU is idle) >= 0.10, by the low end of both; with the GPU idle >= 0.20 of the time, and the
process using >= 0.90 of a core.

## What it does
Takes stacks of the training thread and finds how often it is inside `.item()`, `.cpu()`, `synchronize()` and their
like, and the line that asks. Then looks whether the GPU is idle at all. With the wait gone the step takes as long as
the longer of both sides, so the smaller of the two shares is what can be had.

## Why it matters
While the host waits it queues nothing: when the GPU is done it has nothing to run until the next kernels are launched.

## When it is wrong
Reading the loss of a busy GPU costs nothing, and is no finding here: something must wait for the device somewhere.
Where the stacks cannot be taken, nothing is said. A line that blocks in other C code looks the same, as stacks show
Python only. Two things tell them apart: where the two shares together are more than all of the time it cannot be the
GPU that is waited for; and CUDA waits by spinning, so a process that uses less than a core sleeps, or waits for a disk.
What is left is a line that computes in C.

## Source
fournex 0.3.1 `recommendations/rules.yaml` (sync share 10 %, severe 25 %); gpu-idle 0.1.0, whose authors measured
`.item()` in each step at no cost on a busy GPU. Tested on windows by hand; not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.cores import used
from torchtop.advisor.gpus import first_of, idle
from torchtop.advisor.judgement import Abstain, Judgement, measured, number, severity
from torchtop.advisor.lines import Line, find_line
from torchtop.advisor.statistics import Interval, proportion
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "host-sync"
NEEDS = ("gpu", "steps")
REMEDIES = ("remove-sync",)
MIN_STEPS = 3  # enough to know that steps go on: what is judged are samples and readings
IDLE = 0.20  # share of time: a GPU that is busier is not held up (gpu-idle: 80 % busy and more is no finding)
WARN = 0.10  # share of the step that can be had (fournex)
CRITICAL = 0.25  # share of the step that can be had (fournex: severe)
CORE = 0.90  # of a core that the process uses: CUDA spins while it waits (cudaDeviceScheduleAuto, more cores than contexts)
ALL = 1.10  # of the time: a wait for the GPU and an idle GPU exclude each other, but for the errors of both
FEWEST_SAMPLES = 40  # of the training thread, two seconds of a burst: a share of fewer is too uncertain


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank, by the stacks of its training thread and its first GPU."""
    slow = seen.slow
    assert slow is not None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    rest = gpu.mean("util", idle)
    if isinstance(rest, Abstain):
        return rest
    if rest.low < IDLE:
        return None
    waiting = _waiting(slow)
    if waiting is None or isinstance(waiting, Abstain):
        return waiting
    line, waits, samples = waiting
    if (cores := used(slow.processes)) is not None and cores < CORE:
        return None
    level = severity(min(waits.low, rest.low), WARN, CRITICAL)
    if level is None or waits.mean + rest.mean > ALL:
        return None
    step_s = slow.plain_mean_s or 0.0
    part = min(waits.mean, rest.mean)
    return Finding(
        code=CODE,
        severity=level,
        confidence="medium" if samples >= 2 * FEWEST_SAMPLES and cores is not None else "low",
        recoverable_s=part * step_s,
        share=part,
        evidence=(
            measured("the training thread is at this line", waits, "of its samples", slow.window_s),
            measured("no kernel runs", rest, "of the time", gpu.span_s),
            number("samples of the training thread", samples, "samples", slow.window_s),
            *([number("the process uses", cores, "cores", slow.window_s)] if cores is not None else []),
        ),
        summary=f"the training thread spends {waits.mean:.0%} of its time in a call that waits"
        f"{place.in_words(line)}, while {gpu.label} is idle {rest.mean:.0%}",
        where={**gpu.where, **place.of(slow, line)},
        remedies=REMEDIES,
    )


def _waiting(slow: RankSeen) -> tuple[Line, Interval, int] | Abstain | None:
    """(line that waits, share of the training thread's samples there, samples)."""
    own = slow.own_stacks
    if own is None:
        return Abstain(slow.stacks_reason or "no stacks were taken yet")
    if own.samples < FEWEST_SAMPLES:
        return Abstain(f"{own.samples} of {FEWEST_SAMPLES} samples of the stack were taken")
    line = find_line(slow, "sync")
    if isinstance(line, str):
        return None  # stacks were taken, and nothing in them waits
    return line, proportion(round(line.share * line.samples), own.samples), own.samples
