"""checkpoint-stall: writing checkpoints stops the training.

Defining inequality: seconds in torch.save and its like on the training thread >= 0.10 of the time between saves, by the
low end of its interval over two or more saves; files that are written in one step are one save.

## What it does
Times each write of a checkpoint on the training thread and the time from one to the next, and names the line that
saves. Of a single write nobody knows how often it comes: one of 2 s or more is told, and no more than that.

## Why it matters
Nothing is computed while the file is written. A copy to memory and a write beside the training gives most of it back.

## When it is wrong
A loop that saves densely on purpose while it is debugged. A write in a thread or process of its own costs the training
nothing and is not counted.

## Source
Shares as TraceML 0.5.0 for time outside compute (10 % warn, 20 % critical); datapath-doctor 0.2.1
`rules/checkpoint_io_blocking.py` for one blocking write: 2 s.
"""

from __future__ import annotations

from bisect import bisect_left
from math import inf
from typing import Literal

from torchtop.advisor import place
from torchtop.advisor.judgement import Judgement, confidence, measured, number, severity
from torchtop.advisor.lines import Line, find_line
from torchtop.advisor.recurring import share_of_time
from torchtop.advisor.statistics import Interval
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "checkpoint-stall"
NEEDS = ("steps",)
REMEDIES = ("async-checkpoint",)
MIN_STEPS = 0  # steps with a checkpoint are no plain ones, and there may be hardly any other
WARN = 0.10  # share of the time that is lost to saving
CRITICAL = 0.20  # share of the time that is lost to saving
LINE = "save"  # what the line that a burst of stacks finds must be in
LONG_S = 2.0  # s of one write that is worth telling though nobody knows how often it comes


def check(seen: Seen) -> Judgement:
    """Judge the rank that saves most: in a job of several it is one of them, and the others wait for it."""
    if not seen.ranks:
        return None
    rank = max(seen.ranks, key=_seconds)
    saves = rank.saves
    if not saves:
        return None
    ends, seconds = _together(rank)
    found = share_of_time(ends, seconds, seen.now - seen.window_s, seen.now)
    level: Literal["info", "warn", "critical"] | None
    if found is not None:
        level = severity(found.low, WARN, CRITICAL)
    else:
        level = "info" if seconds[0] >= LONG_S else None
    if level is None:
        return None
    return _finding(seen, rank, found, level)


def _finding(seen: Seen, rank: RankSeen, found: Interval | None, level: Literal["info", "warn", "critical"]) -> Finding:
    saves = rank.saves
    line = _line(rank)
    times = len(_together(rank)[0])
    mean_s = _seconds(rank) / times
    evidence = [
        number("checkpoints", times, "checkpoints", seen.window_s),
        number("files of them", len(saves), "files", seen.window_s),
        number("each, mean", mean_s, "s", seen.window_s),
    ]
    if found is not None:
        evidence.insert(0, measured("saving", found, "of the time", seen.window_s))
        said = f"saving checkpoints takes {found.mean:.0%} of the time, {mean_s:.2g} s each"
    else:
        said = f"a checkpoint took {mean_s:.2g} s; how often it comes is not known yet"
    return Finding(
        code=CODE,
        severity=level,
        confidence="low" if found is None else confidence(found.low, WARN, 20 * len(saves)),
        recoverable_s=_per_step(seen, rank),
        share=found.mean if found is not None else None,
        evidence=tuple(evidence),
        summary=said + place.in_words(line),
        where=place.of(rank, line) | {"writer": saves[-1].function},
        remedies=REMEDIES,
    )


def _together(rank: RankSeen) -> tuple[list[float], list[float]]:
    """(when each checkpoint was written, s that it took): files that are written within one step are one checkpoint."""
    steps = [row.t_end for row in rank.steps]
    known_from = steps[0] - rank.steps[0].step_s if steps else inf
    ends: list[float] = []
    seconds: list[float] = []
    step = None
    for save in rank.saves:
        before, step = step, bisect_left(steps, save.t) if save.t >= known_from else None
        if step is not None and step == before:
            ends[-1] = save.t
            seconds[-1] += save.seconds
        else:
            ends.append(save.t)
            seconds.append(save.seconds)
    return ends, seconds


def _per_step(seen: Seen, rank: RankSeen) -> float | None:
    """s in saves by the steps of the window, of which only the latest may be known."""
    if not rank.steps or seen.window_s <= 0:
        return None
    return _seconds(rank) / seen.window_s * sum(row.step_s for row in rank.steps) / len(rank.steps)


def _seconds(rank: RankSeen) -> float:
    return sum(save.seconds for save in rank.saves)


def _line(rank: RankSeen) -> Line | str:
    """Who saved longest; where the probe saw no frame of the user's, what stacks tell."""
    seconds: dict[tuple[str, int], float] = {}
    for save in rank.saves:
        if save.at is not None:
            key = save.at.file, save.at.line
            seconds[key] = seconds.get(key, 0.0) + save.seconds
    if not seconds:
        return find_line(rank, "save")
    most = max(seconds, key=lambda key: seconds[key])
    frame = next(save.at for save in rank.saves if save.at is not None and (save.at.file, save.at.line) == most)
    return Line(frame, seconds[most] / (_seconds(rank) or 1.0), len(rank.saves))
