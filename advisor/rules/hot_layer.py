"""hot-layer: one layer takes far more time than its work explains.

Defining inequality: seconds of the layer's forward >= 3 times those that layers of the same type and about the same
work take in this job, and what is above that, with backward where there is one rank only, >= 0.10 of the step (warn:
>= 0.20, of layers whose FLOPs are known); or, for a class of the user's without a formula and without peers: >= 0.30 of
the step and >= 10 times what moving its output takes at the best rate of this job (info only); or, of five layers and
more, one whose work is known takes >= 0.60 of the step and >= 4 times what the next one takes (info only).

## What it does
Compares each layer with others of its type whose FLOPs, parameters and output are within a factor of 4, by the time
each needs for the same work. Of a module whose work is not known it compares the time by itself with the bytes that
it returns.

## Why it matters
The time above what the work needs can be had back without changing the model's function: a loop in Python, float64 or
denormal numbers, a memory layout that does not fit.

## When it is wrong
Every healthy model has a hottest layer: equal blocks are not hot. One that dwarfs all others may have to: a head over a
large vocabulary has the work for its time, and is told without seconds. A module of one's own may do arithmetic that
its output does not show, such as attention over a long sequence.

## Source
No tool ships a threshold. A factor of 3 is beyond what shape alone costs among similar layers of one job; where the
work is not known, or there are no peers, it stays info. NVIDIA DLProf names the largest bucket without judging it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from torchtop.advisor import place
from torchtop.advisor.frames import is_users
from torchtop.advisor.judgement import Confidence, Judgement, number
from torchtop.advisor.statistics import median
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding, Frame, Layer

CODE = "hot-layer"
NEEDS = ("steps", "layer-times")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 10  # fewer and the shares of the layers are not those of the job
TIMES = 3.0  # times what its peers need for the same work; shape alone costs less among similar layers
EXCESS = 0.10  # share of the step above that; less is not worth a look
WARN = 0.20  # share of the step, measured against peers
CUSTOM = 0.30  # share of the step that a module without a formula takes by itself
FAR = 10.0  # times what moving its output takes
ALONE = 0.60  # share of the step of one layer that dwarfs all others
APART = 4.0  # times what the next layer takes
_LAYERS = 5  # with fewer one has to be the largest by far
_ALIKE = 4.0  # factor within which FLOPs, parameters and output of peers are
_PEERS = 2  # fewer are no measure
_SAMPLES = 5  # of stacks inside the layer: fewer do not tell its line
# Torch's own modules without a formula: how long their work takes is not known, and they are not slow by a mistake.
_TORCH = re.compile(
    "LSTM|GRU|RNN|(Lazy)?(Linear|Conv)|Bilinear|Embedding|MultiheadAttention|Transformer|Upsample|PixelShuffle|Unfold|Fold"
    "|(Batch|Layer|RMS|Group|Instance|SyncBatch)Norm|(Log|AdaptiveLog)?Softmax|(Adaptive|Fractional)?(Max|Avg|LP)Pool"
    "|GELU|ReLU|SiLU|Dropout|CrossEntropyLoss|CTCLoss"
)


class _Hot(NamedTuple):
    """expected_s: what its work takes, as measured elsewhere in this job; measured: on peers."""

    layer: Layer
    own_s: float
    expected_s: float
    share: float
    measured: bool
    evidence: tuple[Evidence, ...]


def check(seen: Seen) -> Judgement:
    """Judge the layers of the slowest rank; the one with most to be had back is named."""
    slow = seen.slow
    assert slow is not None
    large = [layer for layer in slow.layers if layer.share is not None and layer.share >= EXCESS and layer.calls]
    found = [hot for layer in large if (hot := _against_peers(slow, layer) or _by_itself(slow, layer)) is not None]
    if not found:
        return _dwarfs_all(slow)
    hot = max(found, key=lambda one: (one.measured, one.share * (1 - one.expected_s / one.own_s)))
    layer = hot.layer
    excess = hot.share * (1 - hot.expected_s / hot.own_s)
    at, samples = _line(slow, layer)
    where = place.of(slow) | place.of_layer(layer)
    evidence = list(hot.evidence)
    if at is not None:
        where |= {"file": at.file, "line": at.line, "function": at.function}
        evidence.append(number("samples of stacks on its line", samples, "samples", slow.window_s))
    name = layer.name or "the root"
    return Finding(
        code=CODE,
        severity="warn" if hot.measured and layer.flops and excess >= WARN else "info",
        confidence=_sure(slow) if hot.measured else "low",
        recoverable_s=excess * (seen.step_s or 0.0),
        share=min(hot.share, 1.0),
        evidence=tuple(evidence),
        summary=f"{name} ({layer.type}) takes {hot.share:.0%} of the step, {hot.own_s / hot.expected_s:.1f} times what "
        f"{'layers like it need' if hot.measured else 'moving its output takes'}",
        where=where,
        remedies=REMEDIES,
    )


def _dwarfs_all(slow: RankSeen) -> Finding | None:
    """A layer that does what its work asks for, while hardly anything else in the model has any."""
    if slow.facts.distributed is not None:
        return None  # the layer that comes last in backward waits there for all ranks
    timed = sorted((layer for layer in slow.layers if layer.share), key=lambda layer: -(layer.share or 0.0))
    if len(timed) < _LAYERS or not timed[0].flops:
        return None
    layer, share, following = timed[0], timed[0].share or 0.0, timed[1].share or 0.0
    if share < ALONE or share < APART * following:
        return None
    return Finding(
        code=CODE,
        severity="info",
        confidence="low",
        recoverable_s=None,
        share=min(share, 1.0),
        evidence=(
            number("the layer by itself", share, "of the step", slow.window_s),
            number("the next one", following, "of the step", slow.window_s),
            number("its work in forward", layer.flops or 0.0, "FLOP/step", slow.window_s),
        ),
        summary=f"{layer.name or 'the root'} ({layer.type}) takes {share:.0%} of the step, the next layer {following:.0%}",
        where=place.of(slow) | place.of_layer(layer),
        remedies=REMEDIES,
    )


def _sure(slow: RankSeen) -> Confidence:
    return "medium" if len(slow.phases) >= MIN_STEPS else "low"


def _own_s(layer: Layer) -> float:
    return (layer.self_forward_s or 0.0) + (layer.self_backward_s or 0.0)


def _against_peers(slow: RankSeen, layer: Layer) -> _Hot | None:
    """By what layers of the same type and about the same work take.

    Backward alone says nothing: the layer that comes last in it waits there for the gradients of all ranks.
    """
    peers = [
        other
        for other in slow.layers
        if other is not layer and other.type == layer.type and other.self_forward_s and _alike(layer, other)
    ]
    own_s, forward_s = _own_s(layer), layer.self_forward_s or 0.0
    if len(peers) < _PEERS or own_s <= 0:
        return None
    forward = median([(other.self_forward_s or 0.0) * _more_work(layer, other) for other in peers])
    if forward_s < TIMES * forward:
        return None
    share, expected_s = layer.share or 0.0, median([_own_s(other) * _more_work(layer, other) for other in peers])
    if slow.facts.distributed is not None:
        share, own_s, expected_s = share * forward_s / own_s, forward_s, forward
    if share * (1 - expected_s / own_s) < EXCESS:
        return None
    evidence = [
        number("the layer by itself", share, "of the step", slow.window_s),
        number("time of the layer", own_s, "s/step", slow.window_s),
        number("what its peers need for as much work", expected_s, "s/step", slow.window_s),
        number("peers", len(peers), "layers", slow.window_s),
    ]
    if layer.flops_per_s is not None:
        evidence.append(number("rate reached in forward", layer.flops_per_s, "FLOP/s", slow.window_s))
    return _Hot(layer, own_s, expected_s, share, True, tuple(evidence))


def _alike(layer: Layer, other: Layer) -> bool:
    """Whether both do about as much in a call, with a backward pass or without."""
    if bool(layer.self_backward_s) != bool(other.self_backward_s):
        return False
    pairs: list[tuple[float, float]] = [
        (layer.parameters, other.parameters),
        (_elements(layer), _elements(other)),
    ]
    if layer.flops or other.flops:
        pairs.append(((layer.flops or 0.0) / layer.calls, (other.flops or 0.0) / other.calls))
    elif layer.output_shape is None:
        return False
    return all(a == b or (min(a, b) > 0 and max(a, b) <= _ALIKE * min(a, b)) for a, b in pairs)


def _more_work(layer: Layer, other: Layer) -> float:
    """Times the work of `other` per step that `layer` does."""
    if layer.flops and other.flops:
        return layer.flops / other.flops
    elements = _elements(other) * other.calls
    return _elements(layer) * layer.calls / elements if elements else 1.0


def _elements(layer: Layer) -> int:
    return prod(layer.output_shape) if layer.output_shape is not None else 0


def _by_itself(slow: RankSeen, layer: Layer) -> _Hot | None:
    """Of a class of the user's own without a formula: by the bytes of its output, at the best rate of this job."""
    share, own_s, forward_s = layer.share or 0.0, _own_s(layer), layer.self_forward_s
    if share < CUSTOM or layer.flops or not forward_s or own_s <= 0 or _TORCH.match(layer.type):
        return None
    best = max((other.bytes_per_s or 0.0 for other in slow.layers if other is not layer), default=0.0)
    moved = 2 * 4 * _elements(layer) * layer.calls
    if not best or not moved or _has_twins(slow.layers, layer):
        return None
    expected_s = FAR * moved / best * own_s / forward_s
    if own_s < expected_s or share * (1 - expected_s / own_s) < EXCESS:
        return None
    evidence = (
        number("the layer by itself", share, "of the step", slow.window_s),
        number("time of the layer", own_s, "s/step", slow.window_s),
        number("forward, in which its output is made", forward_s, "s/step", slow.window_s),
        number("moving its output at the best rate of this job", moved / best, "s/step", slow.window_s),
    )
    return _Hot(layer, own_s, moved / best * own_s / forward_s, share, False, evidence)


def _has_twins(layers: Sequence[Layer], layer: Layer) -> bool:
    """Whether it is one of several equal blocks, each of which takes about as long."""
    return (
        sum(
            1
            for other in layers
            if other.type == layer.type and other is not layer and _own_s(other) * TIMES >= _own_s(layer)
        )
        >= _PEERS
    )


def _line(slow: RankSeen, layer: Layer) -> tuple[Frame | None, int]:
    """(the user's line inside the layer that bursts of stacks saw most, samples); None without such."""
    site = layer.called_at[0] if layer.called_at else None
    if site is None:
        return None, 0
    seen: Counter[tuple[str, int]] = Counter()
    frames: dict[tuple[str, int], Frame] = {}
    for stack in slow.own_stacks.counts if slow.own_stacks is not None else ():
        inner = _inside(stack.frames, site)
        if inner is not None:
            seen[inner.file, inner.line] += stack.count
            frames.setdefault((inner.file, inner.line), inner)
    if not seen:
        return None, 0
    (at, count), *_ = seen.most_common(1)
    return (frames[at], count) if sum(seen.values()) >= _SAMPLES else (None, 0)


def _inside(frames: Sequence[Frame], site: Frame) -> Frame | None:
    """The innermost frame of the user's below the call at `site`; None where it is not under way."""
    for at, frame in enumerate(frames):
        if (frame.file, frame.line, frame.function) == (site.file, site.line, site.function):
            return next(filter(is_users, frames[:at]), None)
    return None
