"""input-bound: the step waits for the data loader.

Defining inequality: seconds blocked in the loader's `__next__` >= 0.10 of the step, by the low end of its interval.

## What it does
Compares the time that the training thread is blocked in the DataLoader's iterator with the wall time of the same steps.
The start of workers counts where it comes back with each epoch.

## Why it matters
Nothing is computed while the step waits. Workers prepare the next batches meanwhile, if there are cores for them.

## When it is wrong
A loop that takes its batches from elsewhere than a DataLoader has no such wait: see host-stall. A start of workers that
happens once is warm-up and left out.

## Source
TraceML 0.5.0 `diagnostics/step_time/policy.py` warns at 10 %, gpuprof 0.7.1 at 15 %; critical as pytscope 0.2.1 (40 %).
PyTorch performance tuning guide, "Enable asynchronous data loading and augmentation".
"""

from __future__ import annotations

from torchtop.advisor.judgement import Judgement, confidence, measured, number, severity
from torchtop.advisor.statistics import share
from torchtop.record import StepRow
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "input-bound"
NEEDS = ("steps",)
REMEDIES = ("more-workers",)
MIN_STEPS = 10  # fewer and one slow batch decides
WARN = 0.10  # share of the step; below it the loader hides behind compute
CRITICAL = 0.40  # share of the step
LINE = "data"  # what the line that a burst of stacks finds must be in


def check(seen: Seen) -> Judgement:
    """Judge the plain steps of the slowest rank, and the first of each epoch when epochs recur."""
    slow = seen.slow
    assert slow is not None
    rows = _rows(slow)
    if all(row.data_s is None for row in rows):
        return None
    waited = share([row.data_s or 0.0 for row in rows], [row.step_s for row in rows])
    if waited is None or (level := severity(waited.low, WARN, CRITICAL)) is None:
        return None
    step_s = sum(row.step_s for row in rows) / len(rows)
    evidence = [measured("waiting for data", waited, "of the step", slow.window_s)]
    evidence.append(measured("time waited", waited.times(step_s), "s/step", slow.window_s))
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(waited.low, WARN, len(rows)),
        recoverable_s=waited.mean * step_s,
        share=waited.mean,
        evidence=(*evidence, *_settings(slow)),
        summary=f"the step waits {waited.mean:.0%} of its time for the DataLoader{_how(slow)}",
        where=_where(slow),
        remedies=REMEDIES,
    )


def _rows(slow: RankSeen) -> tuple[StepRow, ...]:
    return slow.plain


def _settings(slow: RankSeen) -> list[Evidence]:
    loader = slow.facts.loader
    return [] if loader is None else [number("workers", loader.workers, "processes", slow.window_s)]


def _how(slow: RankSeen) -> str:
    loader = slow.facts.loader
    if loader is None:
        return ""
    return f", which has {loader.workers} workers" if loader.workers else ", which loads in the training thread itself"


def _where(slow: RankSeen) -> dict[str, object]:
    where: dict[str, object] = {"rank": slow.rank, "pid": slow.pid}
    loader = slow.facts.loader
    if loader is not None:
        where["dataset"] = loader.dataset
        if loader.dataset_at is not None:
            where |= {"file": loader.dataset_at.file, "line": loader.dataset_at.line}
    return where
