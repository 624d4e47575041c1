"""Layers whose weights were read, with what of them is near zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torchtop.advisor.statistics import proportion
from torchtop.seen import RankSeen, WeightRow

_FEWEST_CHANNELS = 16  # output channels: of ten classes two that are near zero say nothing of a model's size
_THIN = 0.05  # share of channels or elements: below it no rule has anything to say of a layer


class Read(NamedTuple):
    """One weight of a Linear or a convolution.

    channels, channels_low: share (0..1) of its output channels near zero, and the low end of its 95 % interval where
    only some were read; others: share of elements near zero in the remaining channels; seconds: of its layer per step,
    None where it is not timed.
    """

    row: WeightRow
    channels: float
    channels_low: float
    others: float
    seconds: float | None

    @property
    def spare_s(self) -> float:
        """s per step that its layer spends on channels near zero, 0 where it is not timed."""
        return (self.seconds or 0.0) * self.channels


class Layers(NamedTuple):
    """All that count, in numbers, and the Reads of those with something to take out: healthy models have none."""

    total: int
    elements: int
    channels: int
    thin: tuple[Read, ...]


def read_layers(slow: RankSeen) -> Layers:
    """Those of 16 output channels or more. One that is zero as a whole was mostly set so, and is about to be trained."""
    rows = [row for row in slow.weights.rows if _counts(row)] if slow.weights is not None else []
    thin = [row for row in rows if _is_thin(row)]
    times = {}
    if thin:
        times = {
            layer.name: (layer.self_forward_s or 0.0) + (layer.self_backward_s or 0.0)
            for layer in slow.layers
            if layer.self_forward_s is not None
        }
    return Layers(
        total=len(rows),
        elements=sum([row.elements for row in rows]),
        channels=sum([row.channels or 0 for row in rows]),
        thin=tuple([_read(row, times.get(row.module)) for row in thin]),
    )


def spare_s(layers: Iterable[Read]) -> float | None:
    """s per step that layers spend on channels near zero; None when none of them is timed."""
    known = [layer for layer in layers if layer.seconds is not None]
    return sum(layer.spare_s for layer in known) if known else None


def why_not_read(slow: RankSeen) -> str | None:
    """What kept weights from being read, when none was; None else."""
    weights = slow.weights
    if weights is None or not weights.left_out or any(row.elements_looked for row in weights.rows):
        return None
    reason, count = max(weights.left_out.items(), key=lambda one: one[1])
    return f"{count} weights could not be read: {reason}"


def _counts(row: WeightRow) -> bool:
    return (row.channels_looked or 0) >= _FEWEST_CHANNELS and row.channels_near_zero is not None and bool(row.norm)


def _is_thin(row: WeightRow) -> bool:
    channels = (row.channels_near_zero or 0) >= _THIN * (row.channels_looked or 1)
    return channels or (row.elements_near_zero or 0) >= _THIN * (row.elements_looked or 1) > 0


def _read(row: WeightRow, seconds: float | None) -> Read:
    looked, near = row.channels_looked or 1, row.channels_near_zero or 0
    share = near / looked
    zeros = (row.elements_near_zero or 0) / row.elements_looked if row.elements_looked else 0.0
    others = max(zeros - share, 0.0) / (1 - share) if share < 1 else 0.0
    low = share if looked == row.channels else proportion(near, looked).low
    return Read(row, share, low, others, seconds)
