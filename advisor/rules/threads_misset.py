"""threads-misset: PyTorch's threads do not fit the cores.

Defining inequality: too many: threads of all ranks here > usable cores and the training thread is ready but not running
>= 0.10 of the time, by the low end of its interval, and strangers and loader workers each use less than half a core.
Too few: threads <= half of the usable cores, at least three quarters of the difference are idle, and >= 0.50 of the
step is in layers of >= 50 MFLOP a call.

## What it does
Holds torch.get_num_threads() of the ranks against the cores that they may use and what their threads cost or leave.

## Why it matters
Threads that outnumber the cores wait for each other at the end of each parallel part. Threads that are too few leave
cores idle that a large matrix product could use.

## When it is wrong
What more threads would gain was never measured on this job: too few stays info, without seconds. Whoever runs several
jobs side by side leaves cores free on purpose. Small layers do not gain from threads.

## Source
No advisor of the field has a threshold; 10 % are TraceML 0.5.0's for time lost. Measured: libgomp that spins, two
threads, two cores and one busy neighbour: a Linear takes 8,100 us in place of 278. PyTorch, "CPU threading and
TorchScript inference". torchrun sets OMP_NUM_THREADS=1 when nobody else did.
"""

from __future__ import annotations

from torchtop.advisor.cores import by_strangers, by_workers, idle, run_delay, used
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "threads-misset"
NEEDS = ("cpu", "steps", "processes", "cores")
REMEDIES = ("set-threads",)
MIN_STEPS = 5  # fewer are over before the machine was read three times
WARN = 0.10  # share of the time that the training thread waits for a core
CRITICAL = 0.30  # share of the time that the training thread waits for a core
STRANGERS = 0.5  # cores of other processes: with more, they are the reason
HALF = 0.5  # threads by usable cores: between this and 1 a thread more hardly helps
IDLE = 0.75  # of the cores that no thread is meant for: fewer are idle only now and then
LARGE_FLOPS = (
    50e6  # FLOP of one call: on one core a millisecond or more, a hundred times what it takes to start threads
)
IN_LARGE = 0.5  # share of the step in such layers: with less, threads have little to speed up


def check(seen: Seen) -> Judgement:
    """Judge all ranks together: they share the cores."""
    slow = seen.slow
    assert slow is not None and seen.usable_cores is not None
    threads = [rank.facts.threads for rank in seen.ranks if rank.facts.threads is not None]
    if len(threads) < len(seen.ranks) or not threads:
        return Abstain("how many threads torch uses was not told")
    if sum(threads) > seen.usable_cores:
        return _too_many(seen, slow, sum(threads))
    if sum(threads) <= HALF * seen.usable_cores:
        return _too_few(seen, slow, sum(threads))
    return None


def _too_many(seen: Seen, slow: RankSeen, threads: int) -> Judgement:
    delay = run_delay(slow)
    if delay is None:
        return Abstain("the kernel does not tell how long the training thread waits for a core")
    strangers = by_strangers(seen) or 0.0
    level = severity(delay.low, WARN, CRITICAL)
    if level is None or strangers >= STRANGERS or by_workers(seen) >= STRANGERS:
        return None
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(delay.low, WARN, len(slow.processes) * 2),
        recoverable_s=delay.mean * seen.step_s if seen.step_s is not None else None,
        share=min(delay.mean, 1.0),
        evidence=(
            *_settings(seen, threads),
            measured("training thread ready, without a core", delay, "of the time", seen.window_s),
        ),
        summary=f"{threads} threads of torch on {seen.usable_cores:g} cores wait {delay.mean:.0%} of the time for "
        "each other's core",
        where=_where(slow, seen),
        remedies=REMEDIES,
    )


def _too_few(seen: Seen, slow: RankSeen, threads: int) -> Judgement:
    free, own = idle(seen), used(slow.processes)
    assert seen.usable_cores is not None
    if free is None or own is None:
        return Abstain("how many cores are idle was not read")
    spare = seen.usable_cores - threads
    large = sum(
        layer.share
        for layer in slow.layers
        if layer.share is not None and layer.calls and (layer.flops or 0.0) / layer.calls >= LARGE_FLOPS
    )
    if spare < 1 or free < IDLE * spare or large < IN_LARGE:
        return None
    return Finding(
        code=CODE,
        severity="info",
        confidence="low",
        recoverable_s=None,  # nothing of this job says how well its layers use threads
        evidence=(
            *_settings(seen, threads),
            number("idle", free, "cores", seen.window_s),
            number("step in layers of 50 MFLOP a call or more", large, "of the step", slow.window_s),
        ),
        summary=f"{threads} thread{'s' if threads > 1 else ''} of torch on {seen.usable_cores:g} cores leave "
        f"{free:.1f} idle, while {min(large, 1.0):.0%} of the step is in large layers",
        where=_where(slow, seen),
        remedies=REMEDIES,
    )


def _settings(seen: Seen, threads: int) -> list[Evidence]:
    assert seen.usable_cores is not None
    return [
        number("threads of torch, all ranks here", threads, "threads", seen.window_s),
        number("usable", seen.usable_cores, "cores", seen.window_s),
    ]


def _where(slow: RankSeen, seen: Seen) -> dict[str, object]:
    told = slow.facts.environment.get("OMP_NUM_THREADS")
    return {
        "rank": slow.rank,
        "pid": slow.pid,
        "threads": slow.facts.threads,
        "cores": seen.usable_cores,
        "OMP_NUM_THREADS": told,
    }
