"""misaligned-dims: sizes of 16-bit products are no multiples of 8.

Defining inequality: floating-point operations of 16-bit layers that have an input or output size not divisible by 8 >=
0.10 of those of all layers (warn: and their seconds at the card's peak >= 0.10 of the step).

## What it does
Takes the sizes of Linear and convolution layers from shapes and operations, and adds up what the odd ones compute.

## Why it matters
Tensor cores read tiles of 8 elements of 16 bits. Odd sizes are computed with slower kernels; a vocabulary of 50,257
padded to 50,304 made a whole GPT-2 step 25 % faster.

## When it is wrong
Newer cuBLAS pads by itself where it pays. A size that is data (a number of classes) can be padded only with care for
the loss. Small layers are not worth it, and not reported.

## Source
PyTorch `torch/profiler/_pattern_matcher.py` (MatMulDimInFP16Pattern: not divisible by 8); NVIDIA "Matrix Multiplication
Background User's Guide", Tensor Core requirements; A. Karpathy on nanoGPT, 2023 (50257 to 50304: 25 %). Recorded from
published numbers, not yet seen live.
"""

from __future__ import annotations

from math import prod

from torchtop.advisor import place
from torchtop.advisor.gpus import first_of
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.advisor.least_time import is_convolution, products, seconds
from torchtop.seen import Seen
from torchtop.snapshot import Evidence, Finding, Layer

CODE = "misaligned-dims"
NEEDS = ("gpu", "steps", "layers")
REMEDIES = ()
MIN_STEPS = 10  # fewer and one slow step decides
MULTIPLE = 8  # elements of 16 bits in a tile of a tensor core (NVIDIA's guide; torch's pattern matcher)
INFO = 0.10  # share of the operations: below it padding is not felt
WARN = 0.10  # share of the step that they take at least
PENALTY = 0.20  # of the time of such a product: nanoGPT's padded vocabulary took 1 - 1 / 1.25 off the step


def check(seen: Seen) -> Judgement:
    """Judge the 16-bit layers of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    all_of_it = products(slow, gpu.device)
    odd = [one for one in all_of_it if one.layer.dtype in ("float16", "bfloat16") and _odd(one.layer)]
    total = sum(one.flops for one in all_of_it)
    part = sum(one.flops for one in odd) / total if total else 0.0
    if not odd or part < INFO:
        return None
    least_s, step_s = seconds(odd, gpu.device), slow.plain_mean_s or 0.0
    heaviest = max(odd, key=lambda one: one.flops)
    sizes = ", ".join(str(size) for size in _odd(heaviest.layer))
    return Finding(
        code=CODE,
        severity="warn" if step_s and least_s >= WARN * step_s else "info",
        confidence="medium" if gpu.device.peak_flops_per_s else "low",
        recoverable_s=PENALTY * least_s if gpu.device.peak_flops_per_s else None,
        share=part,
        evidence=(
            number("operations in layers with odd sizes", part, "of all layers'", slow.window_s),
            number("such layers", len(odd), "layers", slow.window_s),
            *_least(least_s, gpu.device.peak_flops_per_s, slow.window_s),
            *(number("size not divisible by 8", size, "elements", slow.window_s) for size in _odd(heaviest.layer)),
        ),
        summary=f"{heaviest.layer.name or 'the root'} ({heaviest.layer.type}) has a size of {sizes}, not a multiple of "
        f"{MULTIPLE}: {part:.0%} of the operations are in such layers",
        where={**gpu.where, **place.of_layer(heaviest.layer)},
        remedies=REMEDIES,
    )


def _least(least_s: float, peaks: dict[str, float] | None, window_s: float) -> list[Evidence]:
    return [number("they take at the card's peak", least_s, "s/step, at least", window_s)] if peaks else []


def _odd(layer: Layer) -> list[int]:
    """Sizes of the product that are no multiples, of those that are known. Data sets the number of rows: not judged."""
    shape = layer.output_shape
    if not shape or not prod(shape):
        return []
    if is_convolution(layer):
        # Input channels are not judged: the 3 of an image are usual, and cuDNN has kernels for them.
        sizes = [shape[1]] if len(shape) > 2 else []
    else:
        sizes = [shape[-1], *_inputs(layer, shape)]
    return [size for size in sizes if size % MULTIPLE]


def _inputs(layer: Layer, shape: tuple[int, ...]) -> list[int]:
    """in_features of a Linear layer from its operations, if its parameters agree; else nothing."""
    found = (layer.flops or 0.0) / (2.0 * prod(shape) * max(layer.calls, 1.0))
    size = round(found)
    weights = size * shape[-1]
    fits = abs(found - size) < 1e-6 and layer.parameters in (weights, weights + shape[-1])
    return [size] if fits else []
