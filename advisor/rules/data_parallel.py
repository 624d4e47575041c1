"""data-parallel: one process drives several GPUs through nn.DataParallel.

Defining inequality: a root module is a DataParallel, and its process holds memory on >= 2 GPUs.

## What it does
Looks at the root's class and at the devices on which the driver sees the process. What the GPUs have idle on average is
the time that can be had.

## Why it matters
One Python thread each launches for all GPUs under one lock; the model is copied to all of them in every step, and
outputs and gradients are gathered on the first. DistributedDataParallel has one process for each GPU and copies nothing
but gradients.

## When it is wrong
A model that is wrapped and given one device does nothing of that: no finding.

## Source
torch-tb-profiler 0.4.3 `profiler/data.py` (presence with more than one device); PyTorch documentation of
`nn.DataParallel`, which recommends DistributedDataParallel. Tested on windows by hand; not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.gpus import idle, of_rank
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.statistics import Interval, mean_of_known
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "data-parallel"
NEEDS = ("gpu", "steps")
REMEDIES = ()
MIN_STEPS = 3  # enough to know that steps go on: what is judged is a setting
FEWEST_GPUS = 2  # with one there is nothing to scatter and gather


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank that is wrapped so."""
    wrapped = [rank for rank in seen.ranks if "DataParallel" in rank.facts.roots]
    if not wrapped:
        return None
    rank = seen.slow if seen.slow in wrapped else wrapped[0]
    assert rank is not None
    gpus = of_rank(seen, rank)
    if isinstance(gpus, Abstain):
        return gpus
    if len(gpus) < FEWEST_GPUS:
        return None
    resting = [(gpu, one) for gpu in gpus if isinstance(one := gpu.mean("util", idle), Interval)]
    step_s = rank.plain_mean_s
    rest = mean_of_known(one.mean for _, one in resting)
    return Finding(
        code=CODE,
        severity="warn",
        confidence="high",
        recoverable_s=rest * step_s if rest is not None and step_s else None,
        share=rest,
        evidence=(
            number("GPUs of one process", len(gpus), "GPUs", rank.window_s),
            *(measured(f"GPU {gpu.latest.index} runs nothing", one, "of the time", gpu.span_s) for gpu, one in resting),
        ),
        summary=f"one process drives {len(gpus)} GPUs through nn.DataParallel"
        + (f"; they are idle {rest:.0%} of the time on average" if rest is not None else ""),
        where=place.of(rank) | {"devices": [gpu.latest.index for gpu in gpus]},
        remedies=REMEDIES,
    )
