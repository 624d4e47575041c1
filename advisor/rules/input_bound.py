"""input-bound: the step waits for the data loader.

Defining inequality: seconds blocked in the loader's `__next__` and `__iter__` >= 0.10 of the time of the steps, by the
low end of its interval.

## What it does
Compares the time that the training thread is blocked in the DataLoader's iterator with the wall time of the same steps.
The start of workers counts where it comes back with each epoch. Says what the workers do meanwhile: compute, read, or
wait, and whether there are cores left for more of them.

## Why it matters
Nothing is computed while the step waits. Workers prepare the next batches meanwhile, if there are cores for them.

## When it is wrong
A loop that takes its batches from elsewhere than a DataLoader has no such wait: see host-stall. A start of workers that
happens once is warm-up and left out. While a GPU is busy for 80 % of the time or more, the host's waiting is hidden. A
dataset that asks the model and steps an environment (reinforcement learning in Lightning) is no loader to be made
faster, and less than 1 ms a step is what any loader takes: told as info. Where one worker alone is slow, or where
workers crowd each other out, those rules say so instead.

## Source
TraceML 0.5.0 `diagnostics/step_time/policy.py` warns at 10 %, gpuprof 0.7.1 at 15 %; critical as pytscope 0.2.1 (40 %).
PyTorch performance tuning guide, "Enable asynchronous data loading and augmentation".
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.acting import acts
from torchtop.advisor.cores import by_workers, idle
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.advisor.lines import Line, asks_a_model, find_line
from torchtop.advisor.statistics import mean_of_known
from torchtop.advisor.waiting import Waiting, hidden, waiting
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "input-bound"
NEEDS = ("steps",)
REMEDIES = ("more-workers",)
MIN_STEPS = 10  # fewer and one slow batch decides
WARN = 0.10  # share of the step; below it the loader hides behind compute
CRITICAL = 0.40  # share of the step
LEAST_S = 1e-3  # s of a step: putting a batch together takes about that, and so does taking one from a worker
LINE = "data"  # what the line that a burst of stacks finds must be in
_STARTS = 0.5  # of the waiting: then the start of workers in each epoch is the reason
_COMPUTES = 0.8  # cores of a worker, mean: it computes all the time
_SHARED = 0.5  # cores of a worker, mean, where no core is idle: it would compute more if it could
_RESTS = 0.2  # cores of a worker, mean: below it hardly computes; new ones are read late, which hides some of it
_FREE = 0.5  # cores: with less idle another process would only take turns
_READS = 1e6  # bytes/s of all workers: more than metadata and Python's own files
_DISK = 0.10  # share of time in which some process waited for a disk (PSI): it is what holds readers up


def check(seen: Seen) -> Judgement:
    """Judge the plain steps of the slowest rank, and the first of each epoch when epochs recur."""
    slow = seen.slow
    assert slow is not None
    found = waiting(slow)
    if found is None or (level := severity(found.share.low, WARN, CRITICAL)) is None:
        return None
    if (unexposed := hidden(seen, slow)) is not False:
        return unexposed if isinstance(unexposed, Abstain) else None
    if found.share.low * found.step_s < LEAST_S or (acts(slow) and asks_a_model(slow)):
        level = "info"
    evidence = [
        measured("waiting for data", found.share, "of the step", slow.window_s),
        measured("time waited", found.share.times(found.step_s), "s/step", slow.window_s),
    ]
    if found.at_starts is not None:
        evidence.append(number("waited at the start of an epoch", found.start_s, "s", slow.window_s))
    reason, remedies = _reason(seen, slow, found)
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(found.share.low, WARN, len(slow.plain)),
        recoverable_s=found.share.mean * found.step_s,
        share=min(found.share.mean, 1.0),
        evidence=(*evidence, *_behind(seen, slow)),
        summary=f"the step waits {found.share.mean:.0%} of its time for the DataLoader{reason}",
        where=_where(slow),
        remedies=remedies,
    )


def _reason(seen: Seen, slow: RankSeen, found: Waiting) -> tuple[str, tuple[str, ...]]:
    """(what the loader does meanwhile, remedies that fit it)."""
    loader, free = slow.facts.loader, idle(seen)
    if loader is None:
        return "", REMEDIES
    full = free is not None and free < _FREE
    if not loader.workers:
        if full:
            return ", which loads in the training thread itself; no core is idle for workers", ()
        return ", which loads in the training thread itself", REMEDIES
    workers = f"{loader.workers} worker{'s' if loader.workers > 1 else ''}"
    if found.at_starts is not None and found.at_starts.mean >= _STARTS * found.share.mean:
        kept = "" if loader.persistent_workers else " (persistent_workers is off)"
        return f", mostly while its {workers} start anew with each epoch{kept}", ()
    each = by_workers(seen) / max(sum(len(rank.workers) for rank in seen.ranks), 1)
    if not slow.workers:
        return f", which has {workers}", () if full else REMEDIES
    if each >= _COMPUTES or (full and each >= _SHARED):
        if full:
            return f", whose {workers} compute all the time; no core is idle for more of them", ()
        return f", whose {workers} compute all the time", REMEDIES
    if each < _RESTS:
        disk = _disk_pressure(seen)
        what = "for the disk" if disk is not None and disk >= _DISK else "rather than compute"
        return f", whose {workers} wait {what}", REMEDIES
    return f", which has {workers}", REMEDIES


def _behind(seen: Seen, slow: RankSeen) -> list[Evidence]:
    """Readings that tell what the loader lacks."""
    found = []
    if slow.facts.loader is not None:
        found.append(number("workers", slow.facts.loader.workers, "processes", slow.window_s))
    if slow.workers:
        found.append(number("CPU of the workers", by_workers(seen), "cores", seen.window_s))
    if (free := idle(seen)) is not None:
        found.append(number("idle", free, "cores", seen.window_s))
    readers = slow.workers.values() or (slow.processes,)
    rates = [[one.read_bytes_per_s for one in rows if one.read_bytes_per_s is not None] for rows in readers]
    read = sum(sum(rows) / len(rows) for rows in rates if rows)
    if read >= _READS:
        found.append(number("read from storage", read, "bytes/s", seen.window_s))
    if (disk := _disk_pressure(seen)) is not None and disk >= _DISK:
        found.append(number("waiting for a disk (PSI)", disk, "of the time", seen.window_s))
    return found


def _disk_pressure(seen: Seen) -> float | None:
    return mean_of_known(one.io_pressure for one in seen.host)


def _where(slow: RankSeen) -> dict[str, object]:
    """Settings of the loader, and the line that takes longest; without stacks, where the dataset begins."""
    loader, line = slow.facts.loader, find_line(slow, "data")
    if loader is None:
        return place.of(slow, line)
    settings: dict[str, object] = {"dataset": loader.dataset, "workers": loader.workers}
    if isinstance(line, Line) or loader.dataset_at is None:
        return place.of(slow, line) | settings
    begins = loader.dataset_at
    return place.of(slow) | {"file": begins.file, "line": begins.line, "function": begins.function} | settings
