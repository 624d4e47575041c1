"""comm-bound: the ranks wait for their gradients to be exchanged.

Defining inequality: seconds per step that the rank which waits least waits in backward >= 0.20 of the step, by the
low end of the interval.

## What it does
In each step it takes the shortest wait of all ranks: a rank that waits longer may be waiting for another one. Time in
which the thread was ready and got no CPU is taken off.

## Why it matters
Nothing is computed meanwhile. Fewer bytes, fewer exchanges or more work between them take that time down.

## When it is wrong
With several threads in one rank the training thread also sleeps until its own threads are done: then it is not
judged. Nor is it where ranks on other machines are not seen.

## Source
gpuprof 0.7.1: communication 20 % of the step, high at 40 %. pytscope 0.2.1: 25 % and 45 %; torch-tb-profiler 0.4.3:
10 %.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.exchange import in_ddp, matched, why_not_known
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.advisor.statistics import Interval, share
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "comm-bound"
NEEDS = ("steps", "training")
REMEDIES = ("compress-gradients", "bigger-batch", "accumulate")
MIN_STEPS = 10  # fewer and one slow exchange decides
WARN = 0.20  # share of the step; gpuprof 0.7.1
CRITICAL = 0.40  # share of the step; gpuprof 0.7.1


def check(seen: Seen) -> Judgement:
    """Judge the steps that were seen on all ranks; on a GPU the exposed communication, where it was measured."""
    slow = seen.slow
    assert slow is not None
    world = seen.world_size or len(seen.ranks)
    if world < 2 or slow.facts.distributed is None:
        return None
    if not in_ddp(slow):
        return Abstain("gradients are not exchanged by DistributedDataParallel, whose wait is what can be seen")
    found = _exposed(seen)
    if isinstance(found, Abstain):
        return found
    waited, count = found
    if (level := severity(waited.low, WARN, CRITICAL)) is None:
        return None
    step_s = seen.step_s or 0.0
    evidence = [
        measured("waiting for gradients, the rank that waits least", waited, "of the step", slow.window_s),
        measured("time waited", waited.times(step_s), "s/step", slow.window_s),
        number("ranks", world, "ranks", slow.window_s),
    ]
    if slow.gradients_bytes:
        evidence.append(number("gradients", slow.gradients_bytes, "bytes", slow.window_s))
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(waited.low, WARN, count),
        recoverable_s=waited.mean * step_s,
        share=min(waited.mean, 1.0),
        evidence=tuple(evidence),
        summary=f"all {world} ranks wait {waited.mean:.0%} of the step for their gradients "
        f"({slow.facts.distributed.backend})",
        where=place.of(slow) | {"backend": slow.facts.distributed.backend},
        remedies=REMEDIES,
    )


def _exposed(seen: Seen) -> tuple[Interval, int] | Abstain:
    """(share of the step, steps that it is a mean of)."""
    slow = seen.slow
    assert slow is not None
    if slow.on_cuda and slow.phases_are == "device" and all(one.communication is not None for one in slow.phases):
        pairs = [(one.communication or 0.0, one.step_s) for one in slow.phases]
    else:
        if (reason := why_not_known(seen)) is not None:
            return Abstain(reason)
        pairs = [(step.wait_s, step.step_s) for step in matched(seen)]
    if len(pairs) < MIN_STEPS:
        return Abstain(f"{len(pairs)} of {MIN_STEPS} steps were seen on all ranks")
    found = share([wait for wait, _ in pairs], [whole for _, whole in pairs])
    return (found, len(pairs)) if found is not None else Abstain("too few steps for a mean")
