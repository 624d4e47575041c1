"""fragmentation: the allocator holds much memory that tensors cannot use.

Defining inequality: 1 - highest allocated bytes / reserved bytes >= 0.20 (warn: >= 0.40 with reserved >= 0.30 of the
GPU, or cudaMalloc failed and was retried in the window), and allocated bytes at their highest >= 64 MB.

## What it does
Compares what torch's allocator holds from the driver with the most that tensors ever needed at once. What lies between
was never in use at the same time: gaps that no tensor fits into, or a cache of sizes that no longer come.

## Why it matters
The job runs out of memory while there is some. When the driver has no more, the allocator frees its whole cache and
waits for the device: the step stalls.

## When it is wrong
A model that was loaded and moved, or a phase with other shapes that is over, leaves the same trace and costs nothing
until memory is short: info. After `reset_peak_memory_stats` the highest is that since then.

## Source
pytscope 0.2.1 `rules_memory.py` (20 %, 40 %, from 64 MB on); TraceML 0.5.0 `diagnostics/process/policy.py` (reserved at
least twice allocated, at 30 % of the GPU or more); PyTorch "CUDA semantics", `expandable_segments`. Tested on published
out-of-memory messages, not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.gpus import of_rank
from torchtop.advisor.judgement import Abstain, Judgement, Severity, number
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "fragmentation"
NEEDS = ("gpu",)
REMEDIES = ("expandable-segments",)
MIN_STEPS = 0  # a state, not a mean
INFO = 0.20  # share of reserved bytes that tensors never needed (pytscope: low)
WARN = 0.40  # share of reserved bytes (pytscope: medium); TraceML's twice as much reserved is 0.50
PRESSURE = 0.30  # share of the GPU that is reserved (TraceML): below it the gaps harm nobody
FEWEST_BYTES = 64e6  # bytes allocated at most (pytscope): the allocator's own segments are as large in a small job
FEWEST_READINGS = 3  # of the allocator, one a second: the highest of fewer may miss the step's peak


def check(seen: Seen) -> Judgement:
    """Judge the rank whose allocator has the largest gap."""
    ranks = [rank for rank in seen.ranks if rank.allocator]
    if not ranks:
        return Abstain("torch's CUDA allocator was not read")
    if all(len(rank.allocator) < FEWEST_READINGS for rank in ranks):
        return Abstain(f"{max(len(rank.allocator) for rank in ranks)} of {FEWEST_READINGS} readings of the allocator")
    return _judge(seen, max(ranks, key=_gap))


def _judge(seen: Seen, rank: RankSeen) -> Finding | None:
    gap, retries = _gap(rank), rank.allocator[-1].retries - rank.allocator[0].retries
    highest, reserved = _highest(rank), rank.allocator[-1].reserved_bytes
    if gap < INFO or highest < FEWEST_BYTES or len(rank.allocator) < FEWEST_READINGS:
        return None
    total = _total(seen, rank)
    window_s = rank.allocator[-1].t - rank.allocator[0].t
    evidence = [
        number("reserved bytes that tensors never needed at once", gap, "of reserved", window_s),
        number("reserved", reserved, "bytes", window_s),
        number("allocated at most", highest, "bytes", window_s),
        number("cudaMalloc failed and was retried", retries, "times", window_s),
    ]
    if total:
        evidence.append(number("reserved, of the GPU", reserved / total, "of its memory", window_s))
    return Finding(
        code=CODE,
        severity=_severity(gap, retries, reserved / total if total else None),
        confidence="high" if retries > 0 else "medium",
        recoverable_s=None,
        share=gap,
        evidence=tuple(evidence),
        summary=f"torch holds {reserved / 2**30:.1f} GiB of the GPU, of which {gap:.0%} was never needed by tensors"
        + (f"; {retries} times it had to free its cache and wait" if retries > 0 else ""),
        where=place.of(rank),
        remedies=REMEDIES,
    )


def _severity(gap: float, retries: int, of_gpu: float | None) -> Severity:
    if retries > 0:
        return "warn"
    return "warn" if gap >= WARN and of_gpu is not None and of_gpu >= PRESSURE else "info"


def _gap(rank: RankSeen) -> float:
    reserved = rank.allocator[-1].reserved_bytes
    return 1.0 - _highest(rank) / reserved if reserved > 0 else 0.0


def _highest(rank: RankSeen) -> int:
    """bytes that tensors needed at most: a reading between two steps shows what is left, not what was needed."""
    return max(max(one.peak_bytes, one.allocated_bytes) for one in rank.allocator)


def _total(seen: Seen, rank: RankSeen) -> int | None:
    gpus = of_rank(seen, rank)
    return None if isinstance(gpus, Abstain) else gpus[0].latest.memory_total_bytes
