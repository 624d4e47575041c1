"""launch-bound: kernels are so short that the host cannot launch them fast enough.

Defining inequality: the GPU is idle >= 0.50 of the time by the low end of its interval, data and the loop's own work
are < 0.10 of the step together, the GPU's busy time divided by the least number of kernels of a step is <= 25 us, and
the step divided by the calls of its layers is <= 500 us.

## What it does
Counts the calls of layers in a step. Each is one kernel forward and, in training, two backward at the very least, so
the first quotient is an upper bound of the mean kernel. The second is what the host spends on a layer: more than some
operators need is spent on something else. All other stalls must be absent.

## Why it matters
A launch costs the host some 5 us, and an operator of PyTorch some 10 us or more; a kernel that is shorter leaves the
GPU idle. CUDA graphs launch a whole step at once, compiling makes fewer and longer kernels, a bigger batch longer ones.

## When it is wrong
A forward that computes with NumPy looks the same, if it has many layers. A model whose work is in functions, not in
layers, has fewer calls than kernels, so that it is not found.

## Source
fournex 0.3.1 `thresholds.py` (utilization < 50 %, every stall < 10 %); gpu-idle 0.1.0 `analyzer.py` (mean kernel <= 25
us). Tested on windows by hand; not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import Gpu, first_of, idle, sure
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.statistics import Interval, share
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "launch-bound"
NEEDS = ("gpu", "steps", "layers")
REMEDIES = ("cuda-graphs", "compile-blocks", "bigger-batch")
MIN_STEPS = 10  # fewer and one slow batch decides
WARN = 0.50  # share of time idle (fournex: utilization < 50 %)
STALL = 0.10  # share of the step: another stall of that much explains the idle GPU better (fournex)
KERNEL_S = 25e-6  # s, mean kernel (gpu-idle): shorter ones cannot hide their launch
HOST_S = 500e-6  # s of the step per call of a layer: 10 operators, 3 passes, some 15 us each
FORWARD_KERNELS = 1  # per call of a layer, at the very least
TRAINED_KERNELS = 3  # forward, and backward for input and weight


def check(seen: Seen) -> Judgement:
    """Judge the first GPU of the slowest rank by the calls of its layers."""
    slow = seen.slow
    assert slow is not None
    gpu = first_of(seen, slow)
    if isinstance(gpu, Abstain):
        return gpu
    rest = gpu.mean("util", idle)
    if isinstance(rest, Abstain):
        return rest
    stalls = _stalls(slow)
    step_s, calls = slow.plain_mean_s, _calls(slow)
    if rest.low < WARN or stalls is None or stalls.high >= STALL or not step_s or not calls:
        return None
    if step_s / calls > HOST_S:
        return None
    kernels = calls * (TRAINED_KERNELS if slow.training else FORWARD_KERNELS)
    kernel_s = (1.0 - rest.mean) * step_s / kernels
    if kernel_s > KERNEL_S:
        return None
    return _found(slow, gpu, rest, stalls, kernel_s, calls)


def _found(slow: RankSeen, gpu: Gpu, rest: Interval, stalls: Interval, kernel_s: float, calls: float) -> Finding:
    step_s = slow.plain_mean_s or 0.0
    return Finding(
        code=CODE,
        severity="warn",
        confidence=sure(len(gpu.readings)),
        recoverable_s=rest.mean * step_s,
        share=rest.mean,
        evidence=(
            measured("no kernel runs", rest, "of the time", gpu.span_s),
            measured("waiting for data, and work of the loop itself", stalls, "of the step", slow.window_s),
            number("calls of layers", calls, "per step", slow.window_s),
            number("mean kernel, at most", kernel_s, "s", gpu.span_s),
            number("time of the step for each call", step_s / calls, "s", slow.window_s),
        ),
        summary=f"{gpu.label} is idle {rest.mean:.0%} of the time because its kernels are too short: {calls:.0f} calls of "
        f"layers a step, {kernel_s * 1e6:.1f} us a kernel at most",
        where=gpu.where,
        remedies=REMEDIES,
    )


def _stalls(slow: RankSeen) -> Interval | None:
    """Share of the step in data, copies and what is no phase: the time in which the host does not launch."""
    parts = [(phase.data or 0.0) + (phase.transfer or 0.0) + phase.other for phase in slow.phases]
    return share(parts, [phase.step_s for phase in slow.phases])


def _calls(slow: RankSeen) -> float:
    """Calls per step of layers that compute something themselves: those with parameters or a formula."""
    return sum(layer.calls for layer in slow.layers if layer.parameters or layer.flops)
