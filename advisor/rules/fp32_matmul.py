"""fp32-matmul: matrix products run in full float32 on a card that has TF32.

Defining inequality: seconds that the float32 products of a step take at the card's published float32 peak >= 0.10 of
the step, with TF32 off (at that peak: a lower bound of the time that they really take).

## What it does
Adds up the floating-point operations of layers that multiply matrices and give float32, forward and one product
backward, and divides them by the float32 peak. No card is faster than its peak, so at least that time goes there,
though layers are not timed.

## Why it matters
With TF32 the tensor cores multiply: 8 times the peak on an A100, and in practice several times faster. Inputs are
rounded to 10 bits of mantissa, sums stay float32.

## When it is wrong
A job that needs the digits of float32 (some physics, matrix inverses) has TF32 off on purpose. Products outside layers
are not counted. Convolutions are not either: cuDNN uses TF32 unless it is told not to.

## Source
PyTorch `torch/profiler/_pattern_matcher.py` (FP32MatMulPattern: presence); NVIDIA A100 datasheet (19.5 and 156
TFLOP/s); PyTorch "CUDA semantics", TensorFloat-32. Recorded from published numbers, not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.gpus import Gpu, first_of, published
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.advisor.least_time import is_convolution, products, seconds, tf32_is_on
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "fp32-matmul"
NEEDS = ("gpu", "steps", "layers")
REMEDIES = ("tf32", "bf16-autocast")
MIN_STEPS = 10  # fewer and one slow step decides
WARN = 0.10  # share of the step that the products take at least: below it the cure is not felt


def check(seen: Seen) -> Judgement:
    """Judge the layers of the slowest rank by the peaks of its GPU."""
    slow = seen.slow
    assert slow is not None
    if tf32_is_on(slow):
        return None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    peaks = published(gpu)
    if isinstance(peaks, Abstain):
        return peaks
    if "tf32" not in peaks or "float32" not in peaks:
        return None  # a card without TF32
    return _judge(slow, gpu, peaks["tf32"] / peaks["float32"])


def _judge(slow: RankSeen, gpu: Gpu, faster: float) -> Finding | None:
    matmuls = [one for one in products(slow, gpu.device) if one.kind == "float32" and not is_convolution(one.layer)]
    least_s, step_s = seconds(matmuls, gpu.device), slow.plain_mean_s
    if not step_s or least_s < WARN * step_s:
        return None
    part = min(least_s / step_s, 1.0)
    heaviest = max(matmuls, key=lambda one: one.flops).layer
    return Finding(
        code=CODE,
        severity="warn",
        confidence="medium",
        recoverable_s=least_s * (1 - 1 / faster),
        share=part,
        evidence=(
            number("float32 products at the card's peak", least_s, "s/step, at least", slow.window_s),
            number("the same, of the step", part, "of the step, at least", slow.window_s),
            number("peak of TF32 over that of float32", faster, "times", slow.window_s),
            number("layers", len(matmuls), "layers", slow.window_s),
        ),
        summary=f"matrix products in float32 take at least {part:.0%} of the step; {gpu.latest.name} has TF32, "
        "which is switched off",
        where={**gpu.where, **place.of_layer(heaviest)},
        remedies=REMEDIES,
    )
