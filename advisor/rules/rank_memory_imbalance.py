"""rank-memory-imbalance: one rank needs far more memory than the others.

Defining inequality: (most - least) / most of the ranks' memory >= 0.20 and >= 256 MiB (info); with the worst at >= 0.30
of the limit (of its own GPU, or by all ranks of the machine's memory) warn, >= 0.30 and >= 0.50 critical.

## What it does
Compares resident memory without mapped files (CPU) or the allocated peak (CUDA) of the ranks of this machine.

## Why it matters
The fullest rank decides how large a batch or model fits; the others leave memory unused.

## When it is wrong
Ranks of a pipeline or of tensor parallelism may differ by design. A rank that holds the only copy of something on
purpose.

## Source
TraceML 0.5.0 `diagnostics/process/policy.py`: spread 20 % with 30 % pressure warns, 30 % with 50 % is critical. The 256
MiB are ours: libraries and logging make that difference.
"""

from __future__ import annotations

from typing import Literal

from torchtop.advisor import gpus, place
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "rank-memory-imbalance"
NEEDS = ("ranks",)
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 3  # before the first steps optimizer state and gradients are not there
SPREAD = 0.20  # (most - least) / most
SPREAD_CRITICAL = 0.30  # (most - least) / most
PRESSURE = 0.30  # of the limit that is used: below it nothing runs short
PRESSURE_CRITICAL = 0.50  # of the limit that is used
LEAST_BYTES = 256 * 2**20  # bytes between most and least: libraries and logging of one rank are below


def check(seen: Seen) -> Judgement:
    """Compare the ranks of this machine."""
    used = [_used(rank, seen.on_gpu) for rank in seen.ranks]
    known = [one for one in used if one]
    if len(known) < len(seen.ranks):
        return Abstain(f"memory of {len(known)} of {len(seen.ranks)} ranks was read")
    most, least = max(known), min(known)
    spread = (most - least) / most
    if spread < SPREAD or most - least < LEAST_BYTES:
        return None
    fullest = seen.ranks[used.index(most)]
    # Ranks on a CPU share the memory, each GPU has its own.
    limit = _device_bytes(seen, fullest) if seen.on_gpu else seen.memory_limit_bytes
    pressure = (most if seen.on_gpu else sum(known)) / limit if limit else None
    level: Literal["info", "warn", "critical"] = "info"
    if pressure is not None and pressure >= PRESSURE:
        level = "critical" if spread >= SPREAD_CRITICAL and pressure >= PRESSURE_CRITICAL else "warn"
    return Finding(
        code=CODE,
        severity=level,
        confidence="medium",
        recoverable_s=None,
        share=spread,
        evidence=(
            number("fullest rank", most, "bytes", seen.window_s),
            number("emptiest rank", least, "bytes", seen.window_s),
            number("difference", spread, "of the fullest", seen.window_s),
            *([number("used of the limit", pressure, "of the limit", seen.window_s)] if pressure is not None else ()),
        ),
        summary=f"rank {fullest.rank} holds {most / 2**30:.2g} GiB, another one {least / 2**30:.2g} GiB",
        where=place.of(fullest),
        remedies=REMEDIES,
    )


def _used(rank: RankSeen, on_gpu: bool) -> int | None:
    if on_gpu:
        return rank.allocator[-1].peak_bytes if rank.allocator else None
    return rank.processes[-1].held_bytes if rank.processes else None


def _device_bytes(seen: Seen, rank: RankSeen) -> int | None:
    held = gpus.of_rank(seen, rank)
    return None if isinstance(held, Abstain) else held[0].latest.memory_total_bytes
