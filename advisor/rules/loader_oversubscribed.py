"""loader-oversubscribed: the loader's workers crowd out the training.

Defining inequality: worker processes > usable cores, and (1 - cores / workers) of the sum of two shares of time >=
0.10, by the low ends of their intervals: the training thread is ready but has no core, while workers use 0.5 cores and
more than strangers do; and it waits for data: at all times where those workers use >= 0.70 of the cores or less than
0.5 cores are idle, else where they start anew in each epoch.

## What it does
Counts the DataLoader workers of all ranks here against the cores that the job may use, and looks for what they cost:
time in which the training thread waited for a core (schedstat), and time that their start takes in each epoch.

## Why it matters
Workers beyond the cores add no speed: they take turns with the training thread on the same cores, and each one has to
be forked, fed and ended.

## When it is wrong
Workers that only wait for a disk or a network use no core: then nothing is measured and nothing is said. Where the CPU
work of the transforms alone is more than the cores can do, fewer workers help little: it has to become cheaper.

## Source
PyTorch warns of more workers than cores (`torch/utils/data/dataloader.py`, `check_worker_number_rationality`);
SageMaker Debugger 1.0.1 `Dataloader` rule asks for 70 % to 200 % of the cores; the 10 % are TraceML 0.5.0's for
waiting.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.cores import by_strangers, by_workers, idle, run_delay
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.advisor.waiting import hidden, waiting
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "loader-oversubscribed"
NEEDS = ("steps", "loader", "processes", "cores")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 10  # fewer and one slow batch decides
WARN = 0.10  # share of the time that is lost
CRITICAL = 0.30  # share of the time that is lost
_BUSY = 0.5  # cores that the workers use together, at least: below it they wait and crowd nobody
_FREE = 0.5  # cores: with less idle, workers take turns with each other and with the training
_ALL = 0.7  # of the usable cores: workers that use as much have no core left to be faster on, and neither has training


def check(seen: Seen) -> Judgement:
    """Count the workers of all ranks; what they cost is that of the slowest rank."""
    slow = seen.slow
    assert slow is not None and seen.usable_cores is not None
    workers = sum(_workers(rank) for rank in seen.ranks)
    if workers <= seen.usable_cores:
        return None
    crowded, strangers = by_workers(seen), by_strangers(seen) or 0.0
    delay, waits = run_delay(slow), waiting(slow)
    crowding = crowded >= max(_BUSY, strangers)
    unused = idle(seen)
    full = crowding and (crowded >= _ALL * seen.usable_cores or (unused is not None and unused < _FREE))
    waited = None if waits is None else waits.share if full else waits.at_starts
    if delay is None and waited is None:
        return Abstain("the kernel does not tell how long the training thread waits for a core")
    step_s = waits.step_s if waits is not None else seen.step_s or 0.0
    # As many workers as cores would take and start for as long all the same.
    spare = 1 - seen.usable_cores / workers
    lost, low = 0.0, 0.0
    evidence = [
        number("workers", workers, "processes", seen.window_s),
        number("usable", seen.usable_cores, "cores", seen.window_s),
        number("CPU of the workers", crowded, "cores", seen.window_s),
    ]
    if delay is not None and crowding:
        lost, low = delay.mean * spare, delay.low * spare
        evidence.append(measured("training thread ready, without a core", delay, "of the time", seen.window_s))
    if waited is not None:
        lost, low = lost + waited.mean * spare, low + max(waited.low, 0.0) * spare
        name = "waiting for data" if full else "waiting at the start of epochs"
        evidence.append(measured(name, waited, "of the time", seen.window_s))
    if (level := severity(low, WARN, CRITICAL)) is None:
        return None
    if (unexposed := hidden(seen, slow)) is not False:
        return unexposed if isinstance(unexposed, Abstain) else None
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(low, WARN, len(slow.plain)),
        recoverable_s=lost * step_s,
        share=min(lost, 1.0),
        evidence=(*evidence, *_memory(slow)),
        summary=f"{workers} loader workers on {seen.usable_cores:g} cores take {lost:.0%} of the training's time",
        where=place.of(slow) | {"workers": workers, "cores": seen.usable_cores},
        remedies=REMEDIES,
    )


def _workers(rank: RankSeen) -> int:
    """Processes that are alive; between two epochs, those that the loader was told to start."""
    told = rank.facts.loader.workers if rank.facts.loader is not None else 0
    return len(rank.workers) or told


def _memory(slow: RankSeen) -> list[Evidence]:
    resident = [rows[-1].rss_bytes or 0 for rows in slow.workers.values()]
    return [number("resident memory of the workers", sum(resident), "bytes", slow.window_s)] if any(resident) else []
