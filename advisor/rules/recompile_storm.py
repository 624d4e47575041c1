"""recompile-storm: a compiled model is compiled again and again.

Defining inequality: seconds that steps with a compilation take beyond the median of the others >= 0.10 of all steps,
by the low end of the interval, in 4 or more such steps after the warm-up. Where hardly a step is without one: the
seconds that dynamo says each compilation takes.

## What it does
Takes the steps during which dynamo compiled a graph. The first 3 of them are warm-up: forward, backward, and a size
that becomes dynamic. What the rest takes above an ordinary step is lost.

## Why it matters
One compilation takes as long as hundreds of steps. Shapes or numbers that differ from step to step ask for a new
graph each time, until dynamo gives up and runs without.

## When it is wrong
The last batch of an epoch and the first validation each compile once: that is fewer than 4. A job that has just begun
and uses one part after the other for the first time looks the same for a while.

## Source
No tool ships a threshold. torch 2.13 `torch._dynamo.config`: `recompile_limit` 8, after which a frame is not compiled
any more; a dimension is taken for dynamic at its second size. 10 % and 40 % as for other stalls (TraceML 0.5.0).
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Judgement, measured, number, severity
from torchtop.advisor.statistics import median, share
from torchtop.probe import wire
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "recompile-storm"
NEEDS = ("steps",)
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 0  # steps that compile are no plain ones, and in a storm there may be no others
WARN = 0.10  # share of all steps' time; as other stalls (TraceML 0.5.0)
CRITICAL = 0.40  # share of all steps' time
AT_LEAST = 4  # steps that compile, after the warm-up
_WARM_UP = 3  # steps that compile: forward, backward, and once more for a size that becomes dynamic
_ORDINARY = 3  # steps without a compilation: fewer do not make a median


def check(seen: Seen) -> Judgement:
    """Judge all steps of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    rows = [row for row in slow.steps if not row.flags & wire.IDLE]
    compiles = [at for at, row in enumerate(rows) if row.flags & wire.COMPILED]
    again = set(compiles[_WARM_UP:])
    if len(again) < AT_LEAST:
        return None
    others = [row.step_s for row in rows if not row.flags & (wire.COMPILED | wire.ARMED)]
    ordinary_s = median(others) if len(others) >= _ORDINARY else _without(slow, [rows[at].step_s for at in compiles])
    beyond = [max(row.step_s - ordinary_s, 0.0) if at in again else 0.0 for at, row in enumerate(rows)]
    lost = share(beyond, [row.step_s for row in rows])
    if lost is None:
        return Abstain("too few steps for a mean")
    if (level := severity(lost.low, WARN, CRITICAL)) is None:
        return None
    each_s = sum(beyond) / len(again)
    evidence = [
        measured("lost to compiling again", lost, "of the time", slow.window_s),
        number("steps that compiled, after the warm-up", len(again), "steps", slow.window_s),
        number("each took longer by", each_s, "s", slow.window_s),
        number("an ordinary step", ordinary_s, "s", slow.window_s),
    ]
    if slow.facts.compiled_frames:
        evidence.append(number("graphs compiled so far", slow.facts.compiled_frames, "graphs", slow.watched_s))
    return Finding(
        code=CODE,
        severity=level,
        confidence="high" if len(others) >= _ORDINARY else "medium",
        recoverable_s=sum(beyond) / len(rows),
        share=min(lost.mean, 1.0),
        evidence=tuple(evidence),
        summary=f"{len(again)} of {len(rows)} steps compiled the model again, {each_s:.2g} s each: "
        f"{lost.mean:.0%} of the time",
        where=place.of(slow) | {"model": ", ".join(slow.facts.roots) or None, **_function(slow)},
        remedies=REMEDIES,
    )


def _without(slow: RankSeen, compiling_s: list[float]) -> float:
    """s of a step that does not compile, where there are none to measure: the quickest that does, less a compilation."""
    known = slow.facts.compilations
    each_s = sum(one.seconds for one in known) / max(sum(one.count for one in known), 1)
    return max(min(compiling_s) - each_s, 0.0)


def _function(slow: RankSeen) -> dict[str, object]:
    """What was compiled most often, and why again."""
    most = max(slow.facts.compilations, key=lambda one: one.count, default=None)
    if most is None:
        return {}
    return {"file": most.at.file, "line": most.at.line, "function": most.at.function, "reason": most.reason}
