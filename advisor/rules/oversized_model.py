"""oversized-model: most channels of most layers carry nothing.

Defining inequality: of three layers (Linear, convolution, 16 output channels or more) or more, those in which >= 50 % of
the output channels are near zero (norm <= 1 % of the root mean square of the layer's channel norms; low end of the
interval where only a part was looked at) are more than half of the layers and hold more than half of their elements. A
layer that is zero as a whole does not count.

## What it does
Counts output channels near zero in the weights of all layers, as prunable-layers does, and judges the model as a whole.
With the time of the layers it says what a model without those channels would save. It is never more than info.

## Why it matters
A model of half the width computes the same when half of its channels are zero, in about a quarter of the operations
between two such layers. A smaller model from the beginning (or one distilled from this one) trains faster as well.

## When it is wrong
Channels near zero early in a run may still grow. A model whose channels are all alive may be larger than its task needs
and is not seen here: that takes a comparison of trained models, not a look at one.

## Source
No tool ships a threshold. Half of the channels taken out left 0.253 of the parameters and 0.487 of the training step
(measured with torch 2.13 on a CPU).
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.advisor.near_zero import read_layers, spare_s, why_not_read
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "oversized-model"
NEEDS = ("weights",)
REMEDIES = ("prune-channels", "distill")
MIN_STEPS = 0  # weights are judged, no times
CHANNELS = 0.50  # share of a layer's channels: most of them
MODEL = 0.50  # share of the layers and of their elements: most of the model
FEWEST_LAYERS = 3  # fewer are single layers: prunable-layers


def check(seen: Seen) -> Judgement:
    """Judge the weights of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    layers = read_layers(slow)
    if not layers.total:
        reason = why_not_read(slow)
        return Abstain(reason) if reason else None
    thin = [layer for layer in layers.thin if layer.channels_low >= CHANNELS]
    held = sum(layer.row.elements for layer in thin)
    if layers.total < FEWEST_LAYERS or len(thin) <= MODEL * layers.total or held <= MODEL * layers.elements:
        return None
    share = sum((layer.row.channels or 0) * layer.channels for layer in thin) / layers.channels
    spent = spare_s(thin)
    evidence = [
        number("layers most of whose channels are near zero", len(thin), "layers", slow.watched_s),
        number("layers", layers.total, "layers", slow.watched_s),
        number("their share of the weights", held / layers.elements, "of the elements", slow.watched_s),
        number("output channels near zero in them", share, "of the channels", slow.watched_s),
    ]
    if spent is not None:
        evidence.append(number("time of those channels", spent, "s/step", slow.watched_s))
    return Finding(
        code=CODE,
        severity="info",
        confidence="high" if all(layer.row.channels_looked == layer.row.channels for layer in thin) else "medium",
        recoverable_s=spent,
        share=share,
        evidence=tuple(evidence),
        summary=(
            f"{share:.0%} of all output channels are next to zero, in {len(thin)} of {layers.total} layers most "
            "of them: a much narrower model would compute the same"
        ),
        where=place.of(slow) | {"model": ", ".join(slow.facts.roots) or None},
        remedies=REMEDIES,
    )
