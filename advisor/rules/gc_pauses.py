"""gc-pauses: Python's garbage collector stops the training thread.

Defining inequality: seconds in collections of generation 1 and 2 on the training thread >= 0.01 of the time of the
steps (info), >= 0.05 (warn), >= 0.20 (critical), by the low end of the interval.

## What it does
Times each run of the cyclic collector on the training thread, and names the line that called gc.collect() or that
allocated what set it off.

## Why it matters
A full collection looks at every container object: with millions of them it takes a second, and training creates few
cycles that need it.

## When it is wrong
A job that really makes large cycles needs the collector; less often is then still enough. Memory may rise without it.

## Source
No advisor of the field has a threshold. Ours: the time is measured and comes back with gc.freeze() (measured: a full
collection of 1.09 million objects 554 ms before, 0.00 ms after), so a twentieth of the time is worth a warning.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Judgement, confidence, measured, number, severity
from torchtop.advisor.lines import find_line
from torchtop.advisor.recurring import share_of_time
from torchtop.advisor.waiting import hidden
from torchtop.seen import PAUSES_KEPT, RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "gc-pauses"
NEEDS = ("steps",)
REMEDIES = ("freeze-gc",)
MIN_STEPS = 10  # fewer and one collection decides
INFO = 0.01  # share of the time: below it nobody would notice it gone
WARN = 0.05  # share of the time, which is measured and can be had back
CRITICAL = 0.20  # share of the time, as other time outside compute


def check(seen: Seen) -> Judgement:
    """Judge the rank that collects most."""
    if not seen.ranks:
        return None
    rank = max(seen.ranks, key=_seconds)
    pauses = rank.gc_pauses
    began = seen.now - seen.window_s
    if len(pauses) >= PAUSES_KEPT:
        began = pauses[0].t - pauses[0].seconds  # what ran before is no longer known
    if _seconds(rank) < INFO * (seen.now - began):
        return None  # nothing that looks at more than the newest objects ran, or nothing was told
    found = share_of_time([pause.t for pause in pauses], [pause.seconds for pause in pauses], began, seen.now)
    if found is None or found.low < INFO:
        return None
    level = severity(found.low, WARN, CRITICAL) or "info"
    if hidden(seen, rank) is not False:
        level = "info"
    line = find_line(rank, "gc")
    asked = sum(pause.seconds for pause in pauses if pause.explicit)
    by_hand = asked >= 0.5 * _seconds(rank)
    longest = max(pause.seconds for pause in pauses)
    step_s = seen.step_s or 0.0
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(found.low, WARN if level != "info" else INFO, len(pauses)),
        recoverable_s=found.mean * step_s,
        share=found.mean,
        evidence=(
            measured("collecting", found, "of the time", seen.window_s),
            number("collections of generation 1 and 2", len(pauses), "collections", seen.window_s),
            number("longest", longest, "s", seen.window_s),
        ),
        summary=f"{'gc.collect()' if by_hand else 'the garbage collector'} takes {found.mean:.0%} of the time"
        + place.in_words(line),
        where=place.of(rank, line) | {"explicit": by_hand},
        remedies=REMEDIES,
    )


def _seconds(rank: RankSeen) -> float:
    return sum(pause.seconds for pause in rank.gc_pauses)
