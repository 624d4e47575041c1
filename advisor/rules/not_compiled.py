"""not-compiled: an eager model whose GPU is busy with other things than products.

Defining inequality: utilization >= 0.80 by the low end of its interval, and seconds of a step's products at the card's
published peak <= 0.30 of the step, for a model of >= 50 layer calls that nothing compiled.

## What it does
Adds up what layers multiply, at the peak of their dtype. What is left of a busy step goes to element-wise kernels,
normalisation, the optimizer, launches, or products that run far below the peak.

## Why it matters
torch.compile fuses element-wise kernels, so that memory is read once instead of many times.

## When it is wrong
Products without a formula (attention in a function, LSTM, embeddings) are in what is left: always info, and how much
can be had is not said. Data-dependent control flow and changing shapes compile again and again.

## Source
gpuprof 0.7.1 `insights.py` (share of the peak < 30 %); gpu-idle 0.1.0 (80 % busy); profine 0.5.1 `config/catalog.yaml`
(compile: 5 to 40 %). Recorded from published numbers, not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import first_of, published
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.least_time import ALL, products, seconds
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "not-compiled"
NEEDS = ("gpu", "steps", "layers")
REMEDIES = ("compile-blocks",)
MIN_STEPS = 10  # fewer and one slow step decides
BUSY = 0.80  # utilization (gpu-idle): a GPU that is less busy has another problem first
PEAK = 0.30  # share of the step that its products take at the card's peak (gpuprof: low MFU)
CALLS = 50  # calls of layers a step: with fewer there is little to fuse


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank and its first GPU."""
    slow = seen.slow
    assert slow is not None
    if slow.facts.compiled_frames:
        return None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    util = gpu.mean("util", lambda one: one.util)
    if isinstance(util, Abstain):
        return util
    calls, step_s = sum(layer.calls for layer in slow.layers), slow.plain_mean_s
    if not step_s or util.low < BUSY or calls < CALLS:
        return None
    peaks = published(gpu)
    if isinstance(peaks, Abstain):
        return peaks
    known = products(slow, gpu.device)
    if not known or any(one.kind is None for one in known):
        return Abstain("the operations of its layers, or this card's peak for them, are not known")
    if (part := seconds(known, gpu.device, ALL) / step_s) > PEAK:
        return None
    return Finding(
        code=CODE,
        severity="info",
        confidence="low",
        recoverable_s=None,
        share=1.0 - part,
        evidence=(
            measured("any kernel runs", util, "of the time", gpu.span_s),
            number("the layers' products at the card's peak", part, "of the step", slow.window_s),
            number("calls of layers", calls, "per step", slow.window_s),
        ),
        summary=f"{gpu.label} is busy, but products at its peak would take {part:.0%} of the step, and the model is not "
        "compiled",
        where=gpu.where,
        remedies=REMEDIES,
    )
