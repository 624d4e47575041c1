"""unsynced-accumulation: gradients are exchanged in each backward pass, though only the last one of a step needs it.

Defining inequality: backward passes per step in which DDP exchanges gradients >= 1.5, in a job with one optimizer and
as many passes per step; warn where the exchanges that are not needed take >= 0.05 of the step, by the low end of the
interval.

## What it does
Counts the backward passes of a step and in how many of them DistributedDataParallel exchanged gradients. The shortest
wait of all ranks in backward is taken to fall on each exchange alike.

## Why it matters
With accumulation the gradients of all passes are summed before the optimizer uses them: one exchange does for all.

## When it is wrong
Several models with an optimizer each (GAN) exchange once for each: not judged. Without `no_sync()` memory is the
same; but with it gradients of parameters that a pass does not use need find_unused_parameters all the same.

## Source
PyTorch documentation of DistributedDataParallel, `no_sync`. pytscope 0.2.1 `EXPOSED_COMM`: 5 % of the step.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.exchange import in_ddp, matched, why_not_known
from torchtop.advisor.judgement import Abstain, Judgement, measured, number, severity
from torchtop.advisor.statistics import Interval, share
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "unsynced-accumulation"
NEEDS = ("steps", "training")
REMEDIES = ("no-sync-accumulation",)
MIN_STEPS = 10  # fewer and one slow exchange decides
PASSES = 1.5  # backward passes per step that exchange gradients: some steps may have one for another reason
WARN = 0.05  # share of the step; pytscope 0.2.1 EXPOSED_COMM


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank: all ranks exchange together."""
    slow = seen.slow
    assert slow is not None
    passes, world = slow.micro_steps, seen.world_size or len(seen.ranks)
    if world < 2 or not in_ddp(slow) or passes is None or passes < PASSES:
        return None
    synced = slow.facts.synced_passes
    if synced is None:
        return Abstain("in which backward passes gradients are exchanged was not seen")
    synced = min(synced, passes)
    if synced < PASSES:
        return None
    if len(slow.facts.optimizers) > 1:
        return Abstain("there are several optimizers: each may need an exchange of its own")
    evidence = [
        number("backward passes", passes, "per step", slow.window_s),
        number("of those with an exchange of gradients", synced, "per step", slow.window_s),
        number("ranks", world, "ranks", slow.window_s),
    ]
    lost = _lost(seen, 1 - 1 / synced)
    if lost is not None:
        evidence.append(measured("exchanges that are not needed", lost, "of the step", slow.window_s))
    elif slow.gradients_bytes:
        spare = slow.gradients_bytes * (synced - 1)
        evidence.append(number("gradients exchanged for nothing", spare, "bytes/step", slow.window_s))
    back_s = lost.mean * (seen.step_s or 0.0) if lost is not None else None
    return Finding(
        code=CODE,
        severity=(severity(lost.low, WARN) if lost is not None else None) or "info",
        confidence="medium" if lost is not None else "low",
        recoverable_s=back_s,
        share=min(lost.mean, 1.0) if lost is not None else None,
        evidence=tuple(evidence),
        summary=f"gradients are exchanged in {synced:.2g} of {passes:.2g} backward passes of a step; one would do",
        where=place.of(slow),
        remedies=REMEDIES,
    )


def _lost(seen: Seen, part: float) -> Interval | None:
    """Share of the step that `part` of the exchanges take; None where their wait is not known."""
    if why_not_known(seen) is not None:
        return None
    steps = matched(seen)
    found = share([one.wait_s for one in steps], [one.step_s for one in steps]) if len(steps) >= MIN_STEPS else None
    return found.times(part) if found is not None else None
