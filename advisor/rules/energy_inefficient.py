"""energy-inefficient: a step takes much more energy than its arithmetic needs.

Defining inequality: joules of a step >= 10 x the joules of its floating-point operations at the card's published peak
and full power.

## What it does
Multiplies mean power and step time, and compares it with what the layers' operations would take on the same card at its
peak and its limit. A transformer at 40 % of the peak needs 2.5 times that.

## Why it matters
Most of the energy then goes into waiting and into moving memory. The same sample costs less with a bigger batch, a
cured stall, or a lower power limit.

## When it is wrong
Operations without a formula (attention in a function, embeddings) are not counted, so a model made of them has a high
ratio that means nothing: always info.

## Source
Zeus (ml.energy) measures joules per sample and searches the power limit; the factor of 10 is our choice, four times
what a well-used card has. Recorded from published numbers, not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import first_of
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.least_time import ALL, products, seconds
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "energy-inefficient"
NEEDS = ("gpu", "steps", "layers")
REMEDIES = ("bigger-batch", "power-limit")
MIN_STEPS = 10  # fewer and one slow step decides
INFO = 10.0  # times the energy of the operations at the peak: four times what a well-used card needs


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank and its first GPU."""
    slow = seen.slow
    assert slow is not None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    power = gpu.mean("power_w", lambda one: one.power_w)
    if isinstance(power, Abstain):
        return power
    known = products(slow, gpu.device)
    least_s, limit_w, step_s = seconds(known, gpu.device, ALL), gpu.latest.power_limit_w, slow.plain_mean_s
    if not known or any(one.kind is None for one in known) or least_s <= 0 or not limit_w:
        return Abstain("the operations of its layers, the card's peak for them or its power limit is not known")
    if not step_s or power.low * step_s < INFO * least_s * limit_w:
        return None
    times = power.mean * step_s / (least_s * limit_w)
    evidence = [
        measured("energy", power.times(step_s), "J/step", gpu.span_s),
        number("operations at the card's peak and limit", least_s * limit_w, "J/step", gpu.span_s),
    ]
    if slow.batch_size:
        evidence.append(measured("energy of a sample", power.times(step_s / slow.batch_size), "J", gpu.span_s))
    return Finding(
        code=CODE,
        severity="info",
        confidence="low",
        recoverable_s=None,
        share=1.0 - 1.0 / times,
        evidence=tuple(evidence),
        summary=f"a step takes {power.mean * step_s:.3g} J on {gpu.label}, {times:.0f} times what its operations need at "
        "the card's peak",
        where=gpu.where,
        remedies=REMEDIES,
    )
