"""How high a curve reaches. A scale that moves with every reading would repaint the curve with every reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

_STEADY = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_OUTLIER = 4.0  # times the median: one checkpoint should not flatten all other steps


def top(values: Sequence[float | None]) -> float | None:
    """A round number above the values, but for a few that are far above the others; None when there are none."""
    known = [value for value in values if value is not None and value > 0]
    if not known:
        return None
    return _round_up(min(max(known), _OUTLIER * median(known)))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step for step in _STEADY if step * power * (1 + 1e-9) >= value) * power
