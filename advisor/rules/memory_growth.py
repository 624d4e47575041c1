"""memory-growth: memory grows from step to step.

Defining inequality: growth of resident memory without mapped files (CPU) or allocated memory (CUDA) per second, by the
low end of its interval over ten stretches of the window, goes on in every third of it, in its second half with half of
the first's or more, makes 16 MiB or more, and either is >= 1 MB a step and >= 1 % of the peak within the window, or
fills what is left of the memory within 24 hours; info where that is later than 500 times the readings lasted.

## What it does
Takes the least of each stretch of readings, so that what a step allocates and frees again does not count, and looks
whether it rises all the time.

## Why it matters
A list of losses with their graphs or a cache without a bound ends the job hours later.

## When it is wrong
Memory that rises at first and then stays is warm-up: growth that slows down to less than half is not told. Inputs of
ever new shapes fill the heap with gaps for the first minutes; what a short look says of a day is a hint. A cache that
will be full some day looks the same as a leak; so does a replay buffer, and where the model acts more often than it
learns, growth is told as info. Kernels before 4.5 do not tell mapped files from the rest: there, with reads from
storage as large as the growth, the rule abstains.

## Source
pytscope 0.2.1 `rules_memory.py` MEMORY.GROWTH: >= 1 MB a step, >= 1 % of peak, >= 20 steps; TraceML 0.5.0
`diagnostics/step_memory/policy.py`: baseline <= mid <= recent. The 24 hours are ours: nobody looks after a job for
longer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

from torchtop.advisor import place
from torchtop.advisor.acting import acts
from torchtop.advisor.footprint import footprint
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.statistics import Interval, interval, mean_of_known
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "memory-growth"
NEEDS = ("steps",)
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 20  # pytscope's
PER_STEP = 1e6  # bytes a step
OF_PEAK = 0.01  # of the highest reading, within the window
FULL_H = 24.0  # h until the memory is full
CRITICAL_H = 1.0  # h until the memory is full
AHEAD = 500  # times the span of the readings, for which they may speak: 3 hours for 20 seconds
LEAST_BYTES = 16 * 2**20  # bytes within the window: allocators and caches drift by less
_WARM_UP_S = 2.0  # s after the first reading: attaching itself loads code
_STRETCHES = 10  # of the window: the least of each is what stays
_FEWEST = 5  # stretches, of three readings each: with fewer a line is not told from a leap
_SLOWS_DOWN = 0.5  # growth of the second half by that of the first: below it will end by itself


class _Growth(NamedTuple):
    """rate: bytes/s; grown: bytes from the first stretch to the last; span_s: s from the first reading to the last."""

    rate: Interval
    grown: float
    peak: float
    span_s: float


def check(seen: Seen) -> Judgement:
    """Judge the rank that grows fastest."""
    found = [(growth, rank) for rank in seen.ranks if (growth := _growth(rank)) is not None]
    if not found:
        return Abstain("too few readings of the memory")
    growth, rank = max(found, key=lambda one: one[0].rate.low)
    if growth.rate.low <= 0 or growth.grown < LEAST_BYTES or not rank.steps:
        return None
    step_s = sum(row.step_s for row in rank.steps) / len(rank.steps)
    per_step = growth.rate.times(step_s)
    hours = _hours_left(seen, growth)
    fast = per_step.low >= PER_STEP and growth.grown >= OF_PEAK * growth.peak
    if not fast and (hours is None or hours > FULL_H):
        return None
    if _mapped_files(rank) >= growth.rate.mean:
        return Abstain("memory grows, but so much is read from storage that mapped files may be the reason")
    level: Literal["info", "warn", "critical"] = "warn"
    if hours is not None and hours <= CRITICAL_H:
        level = "critical"
    elif not fast and hours is not None and hours * 3600 > AHEAD * growth.span_s:
        level = "info"
    if acts(rank):
        level = "info"
    held = footprint(seen)
    left = f"; at this rate it is full in {_span(hours)}" if hours is not None and hours <= FULL_H else ""
    return Finding(
        code=CODE,
        severity=level,
        confidence="high" if growth.rate.low >= 0.5 * growth.rate.mean else "medium",
        recoverable_s=None,
        share=min(held.taken, 1.0) if held is not None and held.taken is not None else None,
        evidence=(
            measured("growth", per_step, "bytes/step", seen.window_s),
            measured("growth", growth.rate, "bytes/s", seen.window_s),
            number("grown in the window", growth.grown, "bytes", seen.window_s),
            *([number("until memory is full", hours * 3600, "s", seen.window_s)] if hours is not None else ()),
        ),
        summary=f"memory of {'the GPU' if rank.on_cuda else 'the process'} grows by {per_step.mean / 1e6:.2g} MB a step"
        f" ({growth.rate.mean * 3600 / 2**30:.2g} GiB an hour){left}",
        where=place.of(rank),
        remedies=REMEDIES,
    )


def _growth(rank: RankSeen) -> _Growth | None:
    """None with too few readings; a rate of zero where it does not go on in all of the window."""
    readings = [(one.t, one.allocated_bytes) for one in rank.allocator] if rank.on_cuda else rank.held_bytes
    readings = [one for one in readings if one[0] >= readings[0][0] + _WARM_UP_S]
    stretches = min(_STRETCHES, len(readings) // 3)
    if stretches < _FEWEST:
        return None
    cuts = [len(readings) * at // stretches for at in range(stretches + 1)]
    least = [min(readings[a:b], key=lambda one: one[1]) for a, b in pairwise(cuts)]
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(least) if b[0] > a[0]]
    rate = interval(rates)
    if rate is None:
        return None
    levels = [value for _, value in least]
    half, third = stretches // 2, stretches // 3
    first, second = levels[half] - levels[0], levels[-1] - levels[half]
    goes_on = levels[third] > levels[0] and levels[-1 - third] > levels[third] and levels[-1] > levels[-1 - third]
    if not goes_on or second < _SLOWS_DOWN * first:
        rate = Interval(0.0, 0.0, 0.0)
    span_s = readings[-1][0] - readings[0][0]
    return _Growth(rate, levels[-1] - levels[0], max(value for _, value in readings), span_s)


def _hours_left(seen: Seen, growth: _Growth) -> float | None:
    """h until it is full at the low end of the rate; None where the limit is not known."""
    held = footprint(seen)
    if held is None or held.limit_bytes is None or held.taken is None or growth.rate.low <= 0:
        return None
    left = held.limit_bytes * max(1 - held.taken, 0.0)
    if not seen.on_gpu and seen.host and (available := seen.host[-1].memory_available_bytes) is not None:
        left = min(left, available)
    return left / growth.rate.low / 3600


def _mapped_files(rank: RankSeen) -> float:
    """bytes/s by which they may grow where they are not told apart: what the process reads from storage, mean."""
    if rank.on_cuda or any(one.private_bytes is not None for one in rank.processes):
        return 0.0
    return mean_of_known(one.read_bytes_per_s for one in rank.processes) or 0.0


def _span(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
