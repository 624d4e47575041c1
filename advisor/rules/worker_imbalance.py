"""worker-imbalance: one worker of the loader is slow and all batches wait for it.

Defining inequality: the step waits >= 0.10 of its time for data, by the low end of its interval, while one worker is
busy >= 0.30 of the time and >= 2.5 times as much as the mean of the others.

## What it does
Batches are handed out in the order of the workers, so the slowest one sets the pace while the others stand by with full
queues. Compares what the workers do: their CPU, or where that says nothing, their stacks. Looks whether the waits fall
on every n-th batch.

## Why it matters
More workers do not help, and the rest of them is idle. A balanced split gives the difference back.

## When it is wrong
That the waits fall on every n-th batch proves nothing alone: equal workers that are all too slow deliver at the same
moment, and the first of each round is waited for. Workers that only sleep or wait for a network cannot be told apart
without their stacks: then the rule abstains.

## Source
gpuprof 0.7.1 `insights.py` worker_imbalance: hottest child > 2.5 times its fair share and >= 30 % CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

from torchtop.advisor.cores import used
from torchtop.advisor.judgement import Abstain, Judgement, measured, number, severity
from torchtop.advisor.waiting import hidden, waiting
from torchtop.probe import wire
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "worker-imbalance"
NEEDS = ("steps", "loader")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 10  # fewer and one slow batch decides
WARN = 0.10  # share of the step that is waited, as input-bound
CRITICAL = 0.40  # share of the step that is waited, as input-bound
_TIMES = 2.5  # times the mean of the others that the busiest worker works
_AT_LEAST = 0.30  # of the time that the busiest worker works: less cannot hold the step up
_ON_ONE = 0.8  # of the waiting that falls on every n-th batch: then it is one worker's
_SAMPLES = 10  # of a worker's stacks: fewer tell nothing of how busy it is


def check(seen: Seen) -> Judgement:
    """Judge the workers of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    workers = len(slow.workers)
    waits = waiting(slow)
    if workers < 2 or waits is None or (level := severity(waits.share.low, WARN, CRITICAL)) is None:
        return None
    if (unexposed := hidden(seen, slow)) is not False:
        return unexposed if isinstance(unexposed, Abstain) else None
    if (told := slow.facts.loader.workers if slow.facts.loader is not None else workers) < workers:
        return Abstain(f"{workers} workers are alive, {told} of them of the loader in use: which, is not known")
    on_one = _on_one(slow, workers)
    found = _by_cpu(slow) or _by_stacks(slow)
    if found is None:
        if on_one is not None and on_one >= _ON_ONE and workers > 2:
            return Abstain("the workers wait rather than compute, and their stacks were not sampled: which is slow?")
        return None
    pid, busy, others, source = found
    if busy < _AT_LEAST or busy < _TIMES * others:
        return None
    evidence = [
        measured("waiting for data", waits.share, "of the step", slow.window_s),
        number(f"slow worker, by its {source}", busy, "of the time", slow.window_s),
        number("the others, mean", others, "of the time", slow.window_s),
    ]
    if on_one is not None:
        evidence.append(
            number(f"waiting that falls on every {_ordinal(workers)} batch", on_one, "share", slow.window_s)
        )
    # The slow one sets the pace: with its work spread over all of them, each round would be that much shorter.
    fair = (busy + (workers - 1) * others) / workers
    back = min(waits.share.mean, 1 - fair / busy)
    place = sorted(slow.workers).index(pid)
    return Finding(
        code=CODE,
        severity=level,
        confidence="high" if on_one is not None and on_one >= _ON_ONE else "medium",
        recoverable_s=back * waits.step_s,
        share=min(waits.share.mean, 1.0),
        evidence=tuple(evidence),
        summary=f"one of {workers} workers works {busy / max(others, 0.01):.0f} times as much as the others, and the "
        f"step waits {waits.share.mean:.0%} of its time for it",
        where={"rank": slow.rank, "pid": slow.pid, "process": pid, "worker": place, "workers": workers},
        remedies=REMEDIES,
    )


def _by_cpu(slow: RankSeen) -> tuple[int, float, float, str] | None:
    """(pid of the busiest, how busy, mean of the others, source); None where none computes enough to tell."""
    busy = {pid: cores for pid, rows in slow.workers.items() if (cores := used(rows)) is not None}
    return (*found, "CPU") if (found := _busiest(busy)) is not None and found[1] >= _AT_LEAST else None


def _by_stacks(slow: RankSeen) -> tuple[int, float, float, str] | None:
    """The same by the share of a worker's stacks in which it fetches a batch, asleep or not."""
    busy = {}
    for stacks in slow.stacks:
        if stacks.pid in slow.workers and stacks.samples >= _SAMPLES:
            fetching = sum(one.count for one in stacks.counts if any(_fetches(frame.file) for frame in one.frames))
            busy[stacks.pid] = fetching / stacks.samples
    return (*found, "stacks") if len(busy) == len(slow.workers) and (found := _busiest(busy)) is not None else None


def _fetches(file: str) -> bool:
    return file.replace("\\", "/").endswith("torch/utils/data/_utils/fetch.py")


def _busiest(busy: Mapping[int, float]) -> tuple[int, float, float] | None:
    if len(busy) < 2:
        return None
    pid = max(busy, key=lambda one: (busy[one], -one))
    return pid, busy[pid], (sum(busy.values()) - busy[pid]) / (len(busy) - 1)


def _on_one(slow: RankSeen, workers: int) -> float | None:
    """Largest share of the waiting that falls on every `workers`-th batch, in runs of steps from one start of an epoch
    to the next; None where a step takes several batches that do not tell which worker made them.
    """
    takes = {row.micro_steps for row in slow.steps}
    if len(takes) != 1 or (each := takes.pop()) < 1 or workers % each:
        return None
    places = workers // each
    if places < 2:
        return None
    waited = [0.0] * places
    runs: list[list[float]] = [[]]
    for row in slow.steps:
        if row.flags & wire.FIRST_OF_EPOCH:
            runs.append([])
        else:
            runs[-1].append(row.data_s or 0.0)
    for run in runs:
        # Where a run begins in the round is not known: its longest place is put first.
        sums = [sum(run[at::places]) for at in range(places)]
        most = sums.index(max(sums)) if run else 0
        for at in range(places):
            waited[at] += sums[(most + at) % places]
    total = sum(waited)
    return waited[0] / total if total > 0 else None


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
