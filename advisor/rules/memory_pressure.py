"""memory-pressure: the job is about to run out of memory.

Defining inequality: on the CPU: resident memory of the ranks / the limit (cgroup or machine) >= 0.90 (warn), >= 0.97
(critical); with their workers' added the same where memory stalls (PSI) are >= 0.10. On a GPU: allocated peak / memory
of the device >= 0.90 (info), >= 0.97 (warn), or the allocator had to free its cache and try again.

## What it does
Holds what the processes occupy against what they may. Files that the kernel keeps in memory, mapped or not, do not
count.

## Why it matters
At the limit the kernel kills the process, or reclaims memory at every allocation; on a GPU an allocation fails, or the
cache is freed each time, which stops the device.

## When it is wrong
A well filled GPU is what people aim at: that alone is info. Pages that ranks and workers share are counted in each of
them: so ranks count as all that is in use on the machine at most, and workers only when the kernel says that memory
stalls.

## Source
gpuprof 0.7.1: 90 %, high 97 %; fournex 0.3.1 and torch-tb-profiler 0.4.3: 90 %. torch.cuda.memory_stats()
`num_alloc_retries`.
"""

from __future__ import annotations

from typing import Literal

from torchtop.advisor import gpus, place
from torchtop.advisor.footprint import footprint
from torchtop.advisor.judgement import Abstain, Judgement, number, severity
from torchtop.advisor.statistics import mean_of_known
from torchtop.seen import DeviceSeen, RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "memory-pressure"
NEEDS: tuple[str, ...] = ()
REMEDIES = ("checkpoint-activations", "shard-optimizer", "8bit-optimizer")
MIN_STEPS = 0  # memory runs out in the first step, too
WARN = 0.90  # of the limit
CRITICAL = 0.97  # of the limit
STALLS = 0.10  # share of time in which some process waited for memory (PSI some avg10)


def check(seen: Seen) -> Judgement:
    """Judge the memory that the job computes in."""
    slow = seen.slow
    if slow is None:
        return Abstain("no rank is attached")
    return _device(seen) if seen.on_gpu else _host(seen, slow)


def _host(seen: Seen, slow: RankSeen) -> Judgement:
    held = footprint(seen)
    if held is None or held.taken is None or not held.limit_bytes:
        return Abstain("the memory of the rank, or its limit, was not read")
    taken, stalls = held.taken, _stalls(seen)
    with_workers = taken + _workers_bytes(seen) / held.limit_bytes
    if taken < WARN and stalls is not None and stalls >= STALLS:
        taken = with_workers
    if (level := severity(taken, WARN, CRITICAL)) is None:
        return None
    evidence = [
        number("resident", taken * held.limit_bytes, "bytes", seen.window_s),
        number("limit", held.limit_bytes, "bytes", seen.window_s),
    ]
    if stalls is not None:
        evidence.append(number("waiting for memory (PSI)", stalls, "of the time", seen.window_s))
    cgroup = slow.processes[-1].cgroup_memory_limit_bytes == held.limit_bytes
    whose = "its cgroup's limit" if cgroup else "the machine's memory"
    return _finding(slow, level, taken, evidence, f"the job holds {taken:.0%} of {whose}")


def _device(seen: Seen) -> Judgement:
    """The allocator's own peak; what NVML calls used is mostly a cache."""
    worst: tuple[float, RankSeen, DeviceSeen] | None = None
    for rank in seen.ranks:
        held = gpus.of_rank(seen, rank)
        device = None if isinstance(held, Abstain) else held[0].device
        total = device.readings[-1].memory_total_bytes if device is not None else None
        if device is not None and total and rank.allocator:
            worst = max(
                worst or (-1.0, rank, device),
                (rank.allocator[-1].peak_bytes / total, rank, device),
                key=lambda one: one[0],
            )
    if worst is None:
        return Abstain("the allocator of the GPU, or its device, was not read")
    taken, rank, device = worst
    retries = rank.allocator[-1].retries - rank.allocator[0].retries
    level: Literal["info", "warn"] | None = "info" if taken >= WARN else None
    if taken >= CRITICAL or retries > 0:
        level = "warn"
    if level is None:
        return None
    evidence = [
        number("allocated at most", rank.allocator[-1].peak_bytes, "bytes", seen.window_s),
        number("memory of the device", device.readings[-1].memory_total_bytes or 0, "bytes", seen.window_s),
        number("allocations that had to free the cache first", retries, "times", seen.window_s),
    ]
    said = f"the job allocated {min(taken, 1.0):.0%} of the GPU's memory at its peak"
    if retries > 0:
        said += f", and the allocator freed its cache {retries} times to go on"
    return _finding(rank, level, taken, evidence, said)


def _finding(
    rank: RankSeen, level: Literal["info", "warn", "critical"], taken: float, evidence: list[Evidence], said: str
) -> Finding:
    return Finding(
        code=CODE,
        severity=level,
        confidence="medium",
        recoverable_s=None,
        share=min(taken, 1.0),
        evidence=tuple(evidence),
        summary=said,
        where=place.of(rank),
        remedies=REMEDIES,
    )


def _workers_bytes(seen: Seen) -> int:
    return sum(rows[-1].held_bytes or 0 for rank in seen.ranks for rows in rank.workers.values())


def _stalls(seen: Seen) -> float | None:
    return mean_of_known(one.memory_pressure for one in seen.host)
