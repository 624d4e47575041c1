"""quantizable-inference: a job that never trains computes large float32 layers on the CPU.

Defining inequality: self time in float32 Linear layers of >= 262,144 weights (512 x 512), in a float32
TransformerEncoderLayer of as wide a model that computes them all in one call, and in float32 convolutions of
>= 9,216 weights (32 x 32 x 3 x 3) and >= 512 operations for each output element >= 50 % of the step, in a job that does
not train, on the CPU. Layers are timed in some steps only: their mean is compared, no interval of it is known.

## What it does
Adds up the time of the layers of those kinds and sizes for which int8 was measured to help. It is a hint, never more than
info: what it gives here and what it costs in accuracy is to be tried on this model.

## Why it matters
int8 weights are a quarter of the bytes, and the CPU's int8 instructions do several times the operations of float32.

## When it is wrong
A CPU without int8 instructions (VNNI, AMX) gains little. Narrow layers gain nothing: what is around them costs as much,
and neither do depthwise convolutions. Convolutions need calibration data. Accuracy is not known before a trial. A job
that evaluates now may train later, and its weights would have to be quantised anew.

## Source
Measured with torch 2.13, torch.ao int8 against float32, one thread, CPUs with VNNI or AMX. Four Linear layers, dynamic:
512 wide 0.55 / 0.32 / 0.36 of the time at batch 1 / 16 / 128, 1024 wide 0.32 / 0.21 / 0.64 on one machine and 0.38 /
0.19 / 0.29 on another, 256 wide 2.11 / 0.90 / 0.54. Two 3 x 3 convolutions, static: 32 to 256 channels 0.08 to 0.21.
"""

from __future__ import annotations

import math

from torchtop.advisor import place
from torchtop.advisor.judgement import Judgement, number
from torchtop.seen import Seen
from torchtop.snapshot import Finding, Layer

CODE = "quantizable-inference"
NEEDS = ("cpu", "steps", "inference", "layer-times")
REMEDIES = ("quantize-int8",)
MIN_STEPS = 10  # fewer are a look at a model, no service
SHARE = 0.50  # of the step: with half of it at a third of the time, the job takes two thirds
LINEAR_WEIGHTS = 1 << 18  # 512 x 512: the smallest that gained at every batch size measured
CONVOLUTION_WEIGHTS = 9_216  # 32 x 32 x 3 x 3: the smallest measured
CONVOLUTION_OPERATIONS = 512  # for each output element: a depthwise one has 18
LINEAR_RATIO, CONVOLUTION_RATIO = 0.64, 0.21  # of the time that int8 took, the worst measured at those sizes
_LINEAR = frozenset(("Linear", "NonDynamicallyQuantizableLinear"))
_CONVOLUTION = frozenset(("Conv1d", "Conv2d", "Conv3d"))
_FUSED = "TransformerEncoderLayer"


def check(seen: Seen) -> Judgement:
    """Judge the layers of the slowest rank by their means over the armed steps."""
    slow = seen.slow
    assert slow is not None
    if slow.facts.optimizers or slow.facts.autocast is not None:
        return None  # it has trained and will again, or it computes in another dtype already
    linear = [layer for layer in slow.layers if _is_large_linear(layer)]
    convolutions = [layer for layer in slow.layers if _is_large_convolution(layer)]
    layers = sorted((*linear, *convolutions), key=lambda layer: -(layer.share or 0.0))
    share = sum(layer.share or 0.0 for layer in layers)
    if not layers or share < SHARE:
        return None
    step_s = seen.step_s or 0.0
    saved = sum(layer.share or 0.0 for layer in linear) * (1 - LINEAR_RATIO)
    saved += sum(layer.share or 0.0 for layer in convolutions) * (1 - CONVOLUTION_RATIO)
    kinds = " and ".join(text for text, lot in (("Linear layers", linear), ("convolutions", convolutions)) if lot)
    return Finding(
        code=CODE,
        severity="info",
        confidence="medium",
        recoverable_s=min(saved, 1.0) * step_s,
        share=min(share, 1.0),
        evidence=(
            number("time in large float32 layers", min(share, 1.0), "of the step", slow.window_s),
            number("layers of that kind", len(layers), "layers", slow.window_s),
            number("their weights", sum(layer.parameter_bytes for layer in layers), "bytes", slow.window_s),
        ),
        summary=(
            f"{min(share, 1.0):.0%} of the step is float32 {kinds} large enough for int8 to help, and the job does not "
            f"train; {layers[0].name or layers[0].type} takes the most"
        ),
        where=place.of(slow) | place.of_layers([layer.name for layer in layers]),
        remedies=REMEDIES,
    )


def _is_large_linear(layer: Layer) -> bool:
    if layer.type == _FUSED:
        # Without gradients torch computes the whole layer in one operator: its Linear layers are not called.
        shape = layer.output_shape
        return shape is not None and bool(shape) and shape[-1] ** 2 >= LINEAR_WEIGHTS and layer.dtype == "float32"
    return layer.type in _LINEAR and _is_float32(layer) and layer.parameters >= LINEAR_WEIGHTS


def _is_large_convolution(layer: Layer) -> bool:
    if layer.type not in _CONVOLUTION or not _is_float32(layer) or layer.parameters < CONVOLUTION_WEIGHTS:
        return False
    if layer.output_shape is None or layer.flops is None:
        return False
    outputs = layer.calls * math.prod(layer.output_shape)
    return outputs > 0 and layer.flops / outputs >= CONVOLUTION_OPERATIONS


def _is_float32(layer: Layer) -> bool:
    """Both what it holds and what it returns: a quantised layer of the same name holds no parameters."""
    return layer.dtype == "float32" and layer.parameter_bytes == 4 * layer.parameters
