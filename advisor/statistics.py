"""Means of what comes one after the other, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

_BATCHES = 10  # of consecutive values: neighbours resemble each other, means of batches hardly do
# Student's t for 95 %, two-sided, by degrees of freedom (any table of it); beyond, close enough to the last.
_T = {2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
_Z = 1.96  # of a normal distribution, 95 % two-sided


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """All of it `factor` (>= 0) times."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


def interval(values: Sequence[float]) -> Interval | None:
    """Mean of a series with its 95 % interval by batch means (Law, Simulation Modeling and Analysis, 9.5.3); None for
    fewer than three values.
    """
    batches = min(_BATCHES, len(values))
    if batches < 3:
        return None
    cuts = [len(values) * at // batches for at in range(batches + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    mean = sum(values) / len(values)
    middle = sum(means) / batches
    spread = math.sqrt(sum((one - middle) ** 2 for one in means) / (batches - 1) / batches)
    half = _T[batches - 1] * spread
    return Interval(mean, mean - half, mean + half)


def share(parts: Sequence[float], wholes: Sequence[float]) -> Interval | None:
    """Sum of parts by sum of wholes, with its 95 % interval by batches of both; None for fewer than three, or nothing
    to divide by. A long step counts for as much as it lasts.
    """
    total = sum(wholes)
    batches = min(_BATCHES, len(wholes))
    if batches < 3 or total <= 0:
        return None
    mean = sum(parts) / total
    # The ratio's error is that of the mean of (part - mean * whole), by the mean whole.
    rest = interval([part - mean * whole for part, whole in zip(parts, wholes, strict=True)])
    if rest is None:
        return None
    half = (rest.high - rest.mean) * len(wholes) / total
    return Interval(mean, max(mean - half, 0.0), mean + half)


def proportion(hits: int, count: int) -> Interval:
    """Share of `count` (>= 1) that are hits, with its 95 % interval (Wilson 1927)."""
    part, z2 = hits / count, _Z * _Z
    middle = (part + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(part * (1 - part) / count + z2 / (4 * count * count))
    return Interval(part, max(middle - half, 0.0), min(middle + half, 1.0))


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Mean of those that were measured; None when none was."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def median(values: Sequence[float]) -> float:
    """The middle one; `values` is not empty."""
    return percentile(values, 0.5)


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` (0..1) of the values do not exceed, nearest rank; `values` is not empty."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
