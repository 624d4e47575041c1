"""Share of time that something takes that comes again and again: checkpoints, collections, the start of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torchtop.advisor.statistics import Interval, share

_SILENT = 2.0  # times the longest cycle without it: then it has not gone on all the time


def share_of_time(ends: Sequence[float], seconds: Sequence[float], began: float, now: float) -> Interval | None:
    """Of what took `seconds` and was over at `ends` (s, rising), by the cycles from one end to the next, between
    `began` and `now`. None for fewer than two. With one or two cycles the ends of the interval are the extremes.
    """
    cycles = [(b - a, took) for (a, b), took in zip(pairwise(ends), seconds[1:], strict=True) if b > a]
    if not cycles:
        return None
    longest = max(length for length, _ in cycles)
    before, after = ends[0] - seconds[0] - began, now - ends[-1]
    cycles += [(rest, 0.0) for rest in (before, after) if rest > _SILENT * longest]
    lengths, taken = [length for length, _ in cycles], [took for _, took in cycles]
    found = share(taken, lengths) if len(cycles) > 2 else None
    if found is None:
        mean = sum(taken) / sum(lengths)
        found = Interval(mean, min(min(taken + [seconds[0]]) / max(lengths), mean), max(taken) / min(lengths))
    return Interval(min(found.mean, 1.0), min(max(found.low, 0.0), 1.0), min(found.high, 1.0))
