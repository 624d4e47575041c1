"""no-autocast: layers compute in float32 though the card has tensor cores for 16 bits.

Defining inequality: seconds that a step's products in float32 take at the card's published peak for them (TF32 where it
is on) >= 0.10 of the step (warn: and what 16 bits would take off, peak against peak, is >= 0.10 of the step); both are
lower bounds.

## What it does
Adds up the floating-point operations of layers that give float32 while no autocast was seen. Divided by the highest
rate that the card has for that kind of product, they are the least time that they take.

## Why it matters
bfloat16 doubles the peak of TF32, is 16 times that of float32 on an A100, and halves what activations take of memory.

## When it is wrong
Training in float32 may be needed for accuracy; bfloat16 changes the numbers. Operations without a formula are not
counted, so that the time is more than said. Where TF32 is off as well, switching that on is the smaller change: see
fp32-matmul, and this one is only noted (info).

## Source
torch-tb-profiler 0.4.3 `profiler/data.py` and DLProf (eligible operations, none in 16 bits: presence); NVIDIA A100
datasheet (19.5, 156, 312 TFLOP/s). Recorded from published numbers, not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.gpus import Gpu, first_of, published
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.advisor.least_time import products, seconds
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "no-autocast"
NEEDS = ("gpu", "steps", "layers")
REMEDIES = ("bf16-autocast",)
MIN_STEPS = 10  # fewer and one slow step decides
INFO = 0.10  # share of the step that the products take at least: below it the cure is not felt
WARN = 0.10  # share of the step that the cure takes off at least


def check(seen: Seen) -> Judgement:
    """Judge the layers of the slowest rank by the peaks of its GPU."""
    slow = seen.slow
    assert slow is not None
    if slow.facts.autocast is not None:
        return None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    peaks = published(gpu)
    if isinstance(peaks, Abstain):
        return peaks
    half = "bfloat16" if "bfloat16" in peaks else "float16" if "float16" in peaks else None
    return None if half is None else _judge(slow, gpu, half)


def _judge(slow: RankSeen, gpu: Gpu, half: str) -> Finding | None:
    singles = [one for one in products(slow, gpu.device) if one.kind in ("float32", "tf32")]
    least_s, step_s = seconds(singles, gpu.device), slow.plain_mean_s
    if not step_s or least_s < INFO * step_s:
        return None
    part = min(least_s / step_s, 1.0)
    gain_s = least_s - seconds(singles, gpu.device, kind=half)
    # A smaller change cures most of it first.
    tf32_comes_first = any(one.kind == "float32" for one in singles) and "tf32" in (gpu.device.peak_flops_per_s or {})
    return Finding(
        code=CODE,
        severity="warn" if gain_s >= WARN * step_s and not tf32_comes_first else "info",
        confidence="medium",
        recoverable_s=max(gain_s, 0.0),
        share=part,
        evidence=(
            number("products at the card's peak", least_s, "s/step, at least", slow.window_s),
            number("the same, of the step", part, "of the step, at least", slow.window_s),
            number(f"the same in {half}", seconds(singles, gpu.device, kind=half), "s/step, at least", slow.window_s),
            number("layers", len(singles), "layers", slow.window_s),
        ),
        summary=f"layers compute in float32, which takes at least {part:.0%} of the step; {gpu.latest.name} has tensor "
        f"cores for {half}",
        where={**gpu.where, **place.of_layer(max(singles, key=lambda one: one.flops).layer)},
        remedies=REMEDIES if half == "bfloat16" else (),
    )
