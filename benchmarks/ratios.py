"""Ratios of two costs with a 95 % interval, the null control beside them, and the verdict against a bar."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

RESAMPLES = 2000
TRIMMED = 0.1  # share of rounds left out at either end: a round in which the machine did something else
PASS, FAIL, NOT_RESOLVED = "pass", "FAIL", "not resolved"
_CODES = {PASS: 0, FAIL: 1, NOT_RESOLVED: 2}


class Interval(NamedTuple):
    """A middle and the bounds of its 95 % interval."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.4f} [{self.low:.4f}, {self.high:.4f}]"


def trimmed_mean(values: Iterable[float]) -> float:
    """Mean of what lies between the `TRIMMED` lowest and highest."""
    ordered = sorted(values)
    cut = int(TRIMMED * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def interval(above: Sequence[float], below: Sequence[float], chance: random.Random) -> Interval:
    """Ratio of two costs measured in the same rounds: trimmed mean of the log ratios, bootstrap over rounds."""
    logs = [math.log(a / b) for a, b in zip(above, below, strict=True)]
    means = sorted(trimmed_mean(chance.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    bounds = (trimmed_mean(logs), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)])
    return Interval(*(math.exp(bound) for bound in bounds))


def verdict(ratio: Interval, null: Interval, bar: float) -> str:
    """`PASS`, `FAIL` or `NOT_RESOLVED`.

    The null's own excess is what the machine adds, so it is taken off. A null wider than half the margin to the bar
    either way decides nothing.
    """
    if (null.high - null.low) / 2 > (bar - 1) / 2:
        return NOT_RESOLVED
    return PASS if ratio.high - (null.high - 1) <= bar else FAIL


def exit_code(verdicts: Iterable[str]) -> int:
    """1 if one failed, else 2 if one was not resolved, else 0."""
    codes = {_CODES[said] for said in verdicts}
    return 1 if 1 in codes else max(codes, default=0)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
