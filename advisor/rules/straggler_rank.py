"""straggler-rank: the others wait for one rank.

Defining inequality: seconds that the rank works in a step, less those of the median of the others, >= 0.10 of the
step, by the low end of the interval, while the others wait in backward or forward for half of that difference or more.

## What it does
Under DistributedDataParallel all steps take as long as the slowest, and the faster ranks wait in backward, or, where
the model has buffers, in forward for those of the first rank: for as long as the process uses no CPU there. Work is the
step without that wait. The phase (data, forward, backward, optimizer, other) that makes up 80 % of the difference is
named, and the line for loading and for what is in no phase.

## Why it matters
The step is as long as its slowest rank; all other ranks pay for it.

## When it is wrong
Ranks that do not wait for each other, such as runs of a search, have different steps and no straggler. A batch that
is larger on one rank is found, but is work, not slowness: the samples of each are shown.

## Source
TraceML 0.5.0 `diagnostics/step_time/policy.py`: 10 % warns, 20 % is critical, a cause is named at 80 % of the excess.
pytscope 0.2.1 asks for 3 standard errors; here the 95 % interval of the difference has to be above.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import NamedTuple

from torchtop.advisor import place
from torchtop.advisor.cores import run_delay
from torchtop.advisor.exchange import in_ddp, waits, waits_in_forward
from torchtop.advisor.judgement import Abstain, Judgement, measured, number, severity
from torchtop.advisor.lines import Line, find_line
from torchtop.advisor.statistics import Interval, interval, mean_of_known, median
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding

CODE = "straggler-rank"
NEEDS = ("steps", "training", "ranks")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 10  # fewer and one slow step decides
WARN = 0.10  # share of the step; TraceML 0.5.0
CRITICAL = 0.20  # share of the step; TraceML 0.5.0
_CRITICAL_STEPS = 20  # fewer and it is not called critical; TraceML 0.5.0
LINE = "data"  # what the line that a burst of stacks finds must be in; where the finding names its phase, that one
_NAMED = 0.80  # of the difference that a phase makes up to be named; TraceML 0.5.0
_WAITED = 0.5  # of the difference that the others are seen to wait: else nobody waits for it
_READY = 0.05  # share of time ready without a CPU from which it is told


class _Rank(NamedTuple):
    """Means of one rank, in s per step. work: the step without its wait in backward and forward."""

    seen: RankSeen
    work: Interval
    wait_s: float
    parts: dict[str, float]
    samples: float | None


def check(seen: Seen) -> Judgement:
    """Compare all ranks here with the median of the others."""
    if not any(rank.facts.distributed is not None for rank in seen.ranks):
        return None
    if not all(in_ddp(rank) for rank in seen.ranks):
        return Abstain("the ranks are not coupled by DistributedDataParallel: who waits for whom cannot be seen")
    in_forward = waits_in_forward(seen)
    known = [found for rank in seen.ranks if (found := _of(rank, in_forward.get(rank.pid, 0.0))) is not None]
    if len(known) < 2:
        return Abstain("the wait in backward was not measured on two ranks")
    step_s = seen.step_s
    late = max(known, key=lambda one: one.work.mean)
    others = sorted((one for one in known if one is not late), key=lambda one: one.work.mean)
    usual = others[(len(others) - 1) // 2]
    more = _difference(late.work, usual.work)
    if not step_s or (level := severity(more.low / step_s, WARN, CRITICAL)) is None:
        return None
    if usual.wait_s - late.wait_s < _WAITED * more.mean:
        return None
    if level == "critical" and len(late.seen.plain) < _CRITICAL_STEPS:
        level = "warn"
    phase = _phase(late, usual, more.mean)
    name = f"rank {late.seen.rank}" if late.seen.rank is not None else f"process {late.seen.pid}"
    line = _line(late.seen, phase)
    in_phase = (f", in {phase}" if phase is not None else "") + (place.in_words(line) if line is not None else "")
    return Finding(
        code=CODE,
        severity=level,
        confidence="high" if more.low >= 1.5 * WARN * step_s else "medium",
        recoverable_s=more.mean,
        share=min(more.mean / step_s, 1.0),
        evidence=(
            measured(f"more work of {name} than of the median", more, "s/step", seen.window_s),
            measured("that is", more.times(1 / step_s), "of the step", seen.window_s),
            number(f"wait of {name}", late.wait_s, "s/step", seen.window_s),
            number("wait of the median", usual.wait_s, "s/step", seen.window_s),
            *_reasons(late, usual, phase, seen.window_s),
        ),
        summary=f"the others wait {more.mean / step_s:.0%} of the step for {name}{in_phase}",
        where=place.of(late.seen, line) | {"phase": phase},
        remedies=REMEDIES,
    )


def _line(rank: RankSeen, phase: str | None) -> Line | str | None:
    """The line where the rank spends what the others do not; None for phases in which there is no line to name."""
    if phase not in ("data", "other"):
        return None
    return find_line(rank, "data" if phase == "data" else "other")


def _of(rank: RankSeen, in_forward_s: float) -> _Rank | None:
    rows, waited = waits(rank)
    if len(rows) < MIN_STEPS:
        return None
    work = interval([row.step_s - wait_s - in_forward_s for row, wait_s in zip(rows, waited, strict=True)])
    if work is None:
        return None
    _, _, _, _, samples, data_s, backward_s, optimizer_s, _ = zip(*rows, strict=True)
    wait_s = waits(rank).mean_s
    parts = {
        "data": _mean(data_s),
        "backward": _mean(backward_s) - wait_s,
        "optimizer": _mean(optimizer_s),
    }
    rest = work.mean - sum(parts.values())
    forward = [phase.forward for phase in rank.phases if phase.forward is not None]
    if forward:
        parts["forward"] = median(forward) - in_forward_s
        parts["other"] = rest - parts["forward"]
    else:
        parts["forward or other"] = rest
    return _Rank(rank, work, wait_s + in_forward_s, parts, mean_of_known(samples))


def _mean(seconds: Sequence[float | None]) -> float:
    """Per step; where a phase was not seen it took no time."""
    return sum(filter(None, seconds)) / len(seconds)


def _difference(a: Interval, b: Interval) -> Interval:
    mean, half = a.mean - b.mean, hypot(a.high - a.mean, b.high - b.mean)
    return Interval(mean, mean - half, mean + half)


def _phase(late: _Rank, usual: _Rank, more_s: float) -> str | None:
    """The one that makes up the difference; None when no single one does."""
    beyond = {name: late.parts[name] - usual.parts[name] for name in late.parts if name in usual.parts}
    most = max(beyond, key=lambda name: beyond[name])
    return most if beyond[most] >= _NAMED * more_s else None


def _reasons(late: _Rank, usual: _Rank, phase: str | None, window_s: float) -> list[Evidence]:
    found = []
    if phase is not None:
        found.append(
            number(f"{phase}, more than the median", late.parts[phase] - usual.parts[phase], "s/step", window_s)
        )
    if late.samples is not None and usual.samples is not None and late.samples != usual.samples:
        found.append(number("samples of it", late.samples, "per step", window_s))
        found.append(number("samples of the median", usual.samples, "per step", window_s))
    delay = run_delay(late.seen)
    if delay is not None and delay.low >= _READY:
        found.append(measured("ready, but without a CPU", delay, "of the time", window_s))
    return found
