"""swapping: the machine reads the job's memory back from swap.

Defining inequality: pages read from swap >= 1 MB/s, by the low end of the interval, and major faults of the job's
processes x 32 KiB >= half of that.

## What it does
Takes the machine's rate of reading from swap, and the page faults of the ranks and their workers that had to wait for a
disk, to tell whose memory it is.

## Why it matters
Memory is a hundred times faster than the disk that stands in for it: each such fault stops a thread.

## When it is wrong
Swap of another process is not told. Major faults without reads from swap are files read for the first time.

## Source
gpuprof 0.7.1 `insights.py` host_memory_pressure: swap-in > 1 MB/s. 32 KiB: the kernel reads 8 pages around a fault
(`vm.page-cluster` = 3, its default).
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Judgement, measured, number, severity
from torchtop.advisor.statistics import interval, mean_of_known
from torchtop.record import ProcessSample
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "swapping"
NEEDS = ("processes", "host")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 0  # a job that swaps may not finish a step
WARN = 1e6  # bytes/s read from swap
CRITICAL = 20e6  # bytes/s read from swap: about what a disk gives for pages here and there
_READ_AT_ONCE = 32 * 1024  # bytes that one fault brings back: vm.page-cluster = 3 are 8 pages of 4 KiB
_OURS = 0.5  # of what is read from swap: below it, it is somebody else's memory


def check(seen: Seen) -> Judgement:
    """Judge the machine's swap by the faults of all processes of the job."""
    rates = [one.swap_in_bytes_per_s for one in seen.host if one.swap_in_bytes_per_s is not None]
    read = interval(rates)
    if read is None:
        return Abstain("the machine's rate of reading from swap was not read")
    if (level := severity(read.low, WARN, CRITICAL)) is None:
        return None
    faults = {rank.pid: _faults(rank.processes) for rank in seen.ranks}
    faults |= {pid: _faults(rows) for rank in seen.ranks for pid, rows in rank.workers.items()}
    known = {pid: rate for pid, rate in faults.items() if rate is not None}
    if not known:
        return Abstain("the machine swaps, and whether it is this job's memory was not read")
    ours = sum(known.values())
    if ours * _READ_AT_ONCE < _OURS * read.mean:
        return None
    stalled = mean_of_known(one.memory_pressure for one in seen.host)
    most = max(known, key=lambda pid: known[pid])
    rank = next((rank for rank in seen.ranks if rank.pid == most or most in rank.workers), seen.ranks[0])
    return Finding(
        code=CODE,
        severity=level,
        confidence="medium",
        # Not from PSI: measured, 0.13 of the time where pages that came back took half of each step.
        recoverable_s=None,
        share=None,
        evidence=(
            measured("read from swap", read, "bytes/s", seen.window_s),
            number("page faults that waited for a disk", ours, "1/s", seen.window_s),
            *(
                [number("waiting for memory (PSI)", stalled, "of the time", seen.window_s)]
                if stalled is not None
                else ()
            ),
            *([number("in swap", used, "bytes", seen.window_s)] if (used := seen.host[-1].swap_used_bytes) else ()),
        ),
        summary=f"{read.mean / 1e6:.1f} MB/s of memory come back from swap, {ours:.0f} faults a second of this job",
        where=place.of(rank) | {"process": most},
        remedies=REMEDIES,
    )


def _faults(readings: tuple[ProcessSample, ...]) -> float | None:
    return mean_of_known(one.major_faults_per_s for one in readings)
