"""unfused-optimizer: the optimizer goes through its parameters one operation at a time.

Defining inequality: seconds in Optimizer.step >= 0.15 of the step, by the low end of the interval, in a class of
torch.optim that has a fused kernel for the device and does not use it; warn where that kernel would give back >= 0.40
of the step, else info, which is told after causes that have their seconds.

## What it does
Takes the optimizer's share of plain steps, and looks at `fused` of the first parameter group of Adam, AdamW, Adagrad,
and SGD with momentum.

## Why it matters
Each operation reads and writes all parameters and state again; the fused kernel does so once.

## When it is wrong
Fused kernels need floating-point parameters and dense gradients, and on the CPU torch 2.4 or newer. A class of one's
own is not judged. Gradient clipping and schedulers are not part of this time.

## Source
pytscope 0.2.1 `OPTIMIZER_HEAVY`: 15 % of the step. Torch's default is not to fuse, and small models that are well have
20 to 50 % of their step in it: a warning is for 40 % of the step that are to be had. What a fused kernel leaves
was measured on a CPU with torch 2.13: about 0.28 of Adam's and AdamW's step (0.19 to 0.35 by size), 0.42 of Adagrad's,
0.60 of SGD's with momentum. On CUDA, where torch groups tensors by itself, 0.75 is a careful guess.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.fused import could_fuse, is_torchs, leaves
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.advisor.statistics import Interval, share
from torchtop.seen import OptimizerFacts, RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "unfused-optimizer"
NEEDS = ("steps", "training", "optimizer")
REMEDIES = ("fused-optimizer",)
MIN_STEPS = 10  # fewer and one slow step decides
SHARE = 0.15  # of the step; pytscope 0.2.1
WARN = 0.40  # of the step that a fused kernel gives back; less is no fault of a job that runs with torch's defaults


def check(seen: Seen) -> Judgement:
    """Judge all optimizers of the slowest rank together: they share one phase."""
    slow = seen.slow
    assert slow is not None
    foreign = [one for one in slow.facts.optimizers if not is_torchs(one)]
    unfused = [one for one in slow.facts.optimizers if could_fuse(one, slow)]
    if not unfused and not foreign:
        return None
    taken = _taken(slow)
    if isinstance(taken, Abstain):
        return taken
    if taken.low < SHARE:
        return None
    if not unfused:
        return Abstain(f"{foreign[0].kind} is no optimizer of torch: whether it has a fused kernel is not known")
    if len(unfused) < len(slow.facts.optimizers):
        return Abstain("which of the optimizers takes the time was not measured")
    return _finding(slow, unfused, taken)


def _finding(slow: RankSeen, unfused: list[OptimizerFacts], taken: Interval) -> Finding:
    left = leaves(slow)
    step_s = slow.plain_mean_s or 0.0
    evidence = [
        measured("optimizer", taken, "of the step", slow.window_s),
        measured("optimizer's time", taken.times(step_s), "s/step", slow.window_s),
        number("left by a fused kernel", left, "of that time", slow.window_s),
        number("that it would give back", (1 - left) * taken.mean * step_s, "s/step", slow.window_s),
        number("parameters", sum(one.parameters for one in unfused), "tensors", slow.window_s),
    ]
    names = " and ".join(dict.fromkeys(one.kind for one in unfused))
    level = severity((1 - left) * taken.low, WARN) or "info"
    return Finding(
        code=CODE,
        severity=level,
        confidence="low" if slow.on_cuda else confidence(taken.low, SHARE, len(slow.plain)),
        # A default that most jobs run with is no cause to be told before others: those have their seconds.
        recoverable_s=(1 - left) * taken.mean * step_s if level != "info" else None,
        share=min(taken.mean, 1.0),
        evidence=tuple(evidence),
        summary=f"{names} takes {taken.mean:.0%} of the step without its fused kernel",
        where=place.of(slow) | {"optimizer": names},
        remedies=REMEDIES,
    )


def _taken(slow: RankSeen) -> Interval | Abstain:
    """The optimizer's share of the step."""
    if slow.on_cuda:
        if slow.phases_are != "device":
            return Abstain("the optimizer's time on the device was not measured")
        found = share([phase.optimizer or 0.0 for phase in slow.phases], [phase.step_s for phase in slow.phases])
    else:
        rows = slow.plain
        if all(row.optimizer_s is None for row in rows):
            return Abstain("the optimizer's time was not measured")
        found = share([row.optimizer_s or 0.0 for row in rows], [row.step_s for row in rows])
    return found if found is not None else Abstain("too few steps for a mean")
