"""host-stall: the training thread does something else than training between the phases.

Defining inequality: seconds of a step in none of data, transfer, forward, backward and optimizer, less those in
zero_grad, the garbage collector, checkpoints and what is known for training, >= 0.10 of the step and >= 1 ms (3 ms in a
framework's lines), by the low end of the interval; or the same of the part of plain steps outside data, backward and
optimizer that is above its usual length; or of what lies between forward and backward and cannot be a loss.

## What it does
Takes the time of armed steps that no phase explains; for work that comes only every few steps, what plain steps are
longer than usual outside their measured phases. What runs between the root's forward and the backward pass counts as
forward: there, samples of the stack that are in Python's own library, in one that knows nothing of torch, or in a
function that reports by its name (`log_metrics`, `accuracy`), tell what is no loss. Stacks sampled from outside name
the line.

## Why it matters
Logging, metrics, plotting and writing files on the training thread hold up everything else.

## When it is wrong
Clipping of gradients, averaging of weights and steps of an environment are part of training: where the stacks show
them, by the libraries of the field and by names of functions (`update_ema`, `soft_update`), their part is taken off. An
average that is written out in the loop is not known for one. Where no DataLoader is used and the model is called far
more often than backward, it acts: what lies between is told as info. So it is without stacks that say what it is.
Python's own overhead of a loop is below 1 ms a step, that of a framework's below 3 ms. Jobs that do not train are not
judged: what they do between two forward passes may be their work. Any other line between forward and backward may be
the loss, and is not told.

## Source
TraceML 0.5.0 RESIDUAL_HEAVY, `diagnostics/step_time/rules.py`: 10 % warn, 20 % critical. DESIGN 4 for the phases.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from torchtop.advisor import place
from torchtop.advisor.acting import acts
from torchtop.advisor.between import between
from torchtop.advisor.frames import is_users
from torchtop.advisor.interruptions import interrupted_s
from torchtop.advisor.judgement import Abstain, Judgement, Severity, confidence, measured, number, severity
from torchtop.advisor.lines import Line, find_line, samples_in
from torchtop.advisor.recurring import share_of_time
from torchtop.advisor.statistics import Interval, median, share
from torchtop.seen import Phase, RankSeen, Seen
from torchtop.snapshot import Evidence, Finding, Frame

CODE = "host-stall"
NEEDS = ("steps", "training", "phases")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 5  # fewer and one slow step decides
MIN_RARE_STEPS = 20  # what comes every tenth step has then been seen twice
WARN = 0.10  # share of the step
CRITICAL = 0.20  # share of the step
LEAST_S = 1e-3  # s of a step: a plain Python loop with its scheduler, progress bar and .item() takes less
LEAST_FRAMEWORK_S = 3e-3  # s of a step: the Trainers of Hugging Face and Lightning take 1 to 2 ms of their own
LINE = "other"  # what the line that a burst of stacks finds must be in
_USUAL = 1.5  # times its usual length, from which on a step's rest is a stall and not its own noise
_FEWEST_TIMES = 3  # of a stall that comes now and then: of two nobody knows whether they will come again
_SAMPLES = 40  # of the training thread's stacks: from here on they are enough to contradict
_AGREES = 0.25  # of the samples that should be outside the phases: with fewer, the armed steps were unlike the others

# Files of torch's whose work between the phases is training: clipping, averaging of weights, scaling of the loss.
_TRAINING = (
    "torch/nn/utils/clip_grad.py",
    "torch/optim/swa_utils.py",
    "torch/amp/grad_scaler.py",
    "torch/cuda/amp/grad_scaler.py",
    "torch/nn/utils/prune.py",
    "torch/nn/parallel/distributed.py",
    "torch/distributed/distributed_c10d.py",
    "/timm/utils/model_ema.py",
    "/torch_ema/ema.py",
)
# Parts of paths of libraries whose environments a reinforcement learner steps.
_ENVIRONMENTS = (
    "-packages/gymnasium/",
    "-packages/gym/",
    "-packages/pettingzoo/",
    "-packages/dm_control/",
    "-packages/stable_baselines3/common/vec_env/",
    "-packages/torchrl/envs/",
)
# Functions and methods that average weights, by what such ones are called.
_AVERAGES = re.compile(
    r"(?:^|[._])(?:ema|soft_?update|polyak|(?:hard_?)?update_target|target_update)(?:$|[._])"
    r"|(?<![A-Z])E(?:MA|ma)(?=[A-Z._]|$)|[Mm]oving_?[Aa]verage|Weight_?Average|momentum_update"
    r"|(?:^|[._])update_(?:teacher|shadow|averages?|momentum|key_encoder)"
)


class _Stall(NamedTuple):
    """share: of the time of steps; seconds: of a step, mean; every_s: from one to the next where it is not in each step."""

    share: Interval
    seconds: float
    phase: Literal["other", "between"]
    known: float
    every_s: float | None = None


def check(seen: Seen) -> Judgement:
    """Judge the rank that has most time in no phase, and the slowest one."""
    slow = seen.slow
    assert slow is not None
    if slow.on_cuda and slow.phases_are != "device":
        return Abstain("the host waits for the device between the phases: how long is not known")
    most = max(seen.ranks, key=_other)
    reason: Abstain | None = None
    found: list[tuple[_Stall, RankSeen]] = []
    for rank in (most,) if most is slow else (most, slow):
        steady = _steady(rank, seen.window_s)
        if isinstance(steady, Abstain):
            reason = steady
        elif steady is not None:
            found.append((steady, rank))
        rare = _rare(rank)
        if rare is not None:
            found.append((rare, rank))
        inside = between(rank, WARN)
        if isinstance(inside, Abstain):
            reason = reason or inside
        elif inside is not None and inside.low > 0:
            found.append((_Stall(inside, inside.mean * (rank.plain_mean_s or 0.0), "between", 0.0), rank))
    if not found:
        return reason
    stall, rank = max(found, key=lambda one: one[0].share.low)
    level = severity(stall.share.low, WARN, CRITICAL)
    if level is None:
        return reason
    if acts(slow) and all(row.data_s is None for row in rank.steps):
        level = "info"
    return _told(stall, rank, level)


def _told(stall: _Stall, rank: RankSeen, level: Severity) -> Judgement:
    line = find_line(rank, stall.phase)
    least_s = LEAST_FRAMEWORK_S if isinstance(line, Line) and not is_users(line.frame) else LEAST_S
    if stall.share.low * stall.seconds / max(stall.share.mean, 1e-9) < least_s:
        return None
    samples = _samples(rank)
    outside = samples_in(rank, "other")
    if _enough(rank, stall) and outside < _AGREES * stall.share.mean * samples:
        return Abstain(
            f"{stall.share.mean:.0%} of the time are in no phase, but {outside} of {samples} samples of the stack are"
        )
    if not outside:
        level = "info"  # as long as no stacks say what it is, it may be training
    every = "of each step" if stall.every_s is None else f"of the time, every {stall.every_s:.2g} s,"
    return Finding(
        code=CODE,
        severity=level,
        confidence="low" if not samples else confidence(stall.share.low, WARN, len(rank.plain)),
        recoverable_s=stall.share.mean * (rank.plain_mean_s or 0.0),
        share=min(stall.share.mean, 1.0),
        evidence=_evidence(stall, line, samples, rank),
        summary=f"{stall.share.mean:.0%} {every} goes to something else than training{place.in_words(line)}",
        where=place.of(rank, line),
        remedies=REMEDIES,
    )


def _enough(rank: RankSeen, stall: _Stall) -> bool:
    """Whether so many stacks were taken that they may contradict: of what comes now and then, over two times of it."""
    own = rank.own_stacks
    seconds = own.samples / own.rate_hz if own is not None and own.rate_hz > 0 else 0.0
    return _samples(rank) >= _SAMPLES and (stall.every_s is None or seconds >= 2 * stall.every_s)


def _evidence(stall: _Stall, line: Line | str, samples: int, rank: RankSeen) -> tuple[Evidence, ...]:
    what = "in no phase" if stall.every_s is None else "above the usual, outside the measured phases"
    what = "between forward and backward, and no loss" if stall.phase == "between" else what
    found = [
        measured(what, stall.share, "of the step", rank.window_s),
        number("that is", stall.seconds, "s/step", rank.window_s),
    ]
    if stall.known:
        found.append(
            number("taken off: zero_grad, collector, other training", stall.known, "of the step", rank.window_s)
        )
    if isinstance(line, Line):
        found.append(number("of it at this line", line.share, "of the samples", rank.window_s))
        found.append(number("samples of the stack", samples, "samples", rank.window_s))
    return tuple(found)


def _steady(rank: RankSeen, window_s: float) -> _Stall | Abstain | None:
    """By armed steps: what no phase explains."""
    phases = rank.phases
    for name in ("forward", "backward", "optimizer"):
        if phases and all(getattr(phase, name) is None for phase in phases):
            return Abstain(f"no {name} was seen: it would be part of what no phase explains")
    # Of steps that save, more or fewer may be armed than there are.
    found = share([phase.other - phase.saving for phase in phases], [phase.step_s - phase.saving for phase in phases])
    if found is None:
        return None
    known = _named(rank, window_s) + _training_share(rank)
    step_s = sum(phase.step_s for phase in phases) / len(phases)
    return _less(found, known, step_s)


def _named(rank: RankSeen, window_s: float) -> float:
    """Share of the window in what has a name of its own: zero_grad, the collector. Saving is known of each step."""
    if window_s <= 0:
        return 0.0
    zeroing = rank.zero_grad.seconds if rank.zero_grad is not None else 0.0
    return (zeroing + (rank.gc_seconds or 0.0)) / window_s


def _less(found: Interval, known: float, step_s: float) -> _Stall | None:
    rest = Interval(found.mean - known, found.low - known, found.high - known)
    return _Stall(rest, rest.mean * step_s, "other", known) if rest.low > 0 else None


def _rare(rank: RankSeen) -> _Stall | None:
    """By plain steps: what some are longer than usual outside data, backward and optimizer.

    Steps whose backward pass is longer as well have more to do, or were held up by somebody: that much is taken off.
    """
    rows = rank.plain
    if len(rows) < MIN_RARE_STEPS:
        return None
    backward = [row.backward_s or 0.0 for row in rows]
    rest = [
        row.step_s - (row.data_s or 0.0) - (row.optimizer_s or 0.0) - back
        for row, back in zip(rows, backward, strict=True)
    ]
    lengths = [row.step_s for row in rows]
    usual, whole = median(rest), sum(lengths)
    if sum(one - usual for one in rest if one >= _USUAL * usual) < WARN * whole:
        return None
    rest = [max(one - lost, 0.0) for one, lost in zip(rest, interrupted_s(rank, rows), strict=True)]
    usual, usual_back = max(median(rest), 0.0), median(backward)
    over = []
    for one, back in zip(rest, backward, strict=True):
        expected = usual * max(back / usual_back if usual_back > 0 else 1.0, 1.0)
        over.append(one - usual if one >= _USUAL * expected and one - expected >= LEAST_S else 0.0)
    hits = [(row.t_end, lost) for row, lost in zip(rows, over, strict=True) if lost]
    if not hits:
        return None
    # Of what comes a few times in the window, batches of steps say only which of them it fell into.
    began, now = rows[0].t_end - rows[0].step_s, rows[-1].t_end
    ends, lost_s = [t for t, _ in hits], [lost for _, lost in hits]
    found = share_of_time(ends, lost_s, began, now) if len(hits) >= _FEWEST_TIMES else share(over, lengths)
    if found is None:
        return None
    # What hits backward passes by chance hits the rest as well, by its length.
    chance = sum(back - usual_back for back in backward if back >= _USUAL * usual_back) if usual_back > 0 else 0.0
    known = chance * (usual / usual_back if usual_back > 0 else 0.0) / whole + _training_share(rank)
    stall = Interval(found.mean - known, found.low - known, found.high - known)
    if stall.low <= 0:
        return None
    return _Stall(stall, stall.mean * whole / len(rows), "other", known, (now - began) / len(hits))


def _other(rank: RankSeen) -> float:
    known = sum(phase.other - phase.saving for phase in rank.phases)
    return known / sum(map(_whole, rank.phases)) if rank.phases else 0.0


def _whole(phase: Phase) -> float:
    return phase.step_s or 1e-9


def _samples(rank: RankSeen) -> int:
    return rank.own_stacks.samples if rank.own_stacks is not None else 0


def _training_share(rank: RankSeen) -> float:
    """Share of the samples of stacks that are in what is done for training between the phases."""
    samples = _samples(rank)
    inside = sum(
        one.count
        for one in (rank.own_stacks.counts if rank.own_stacks is not None else ())
        if any(_trains(frame) for frame in one.frames)
    )
    return inside / samples if samples else 0.0


def _trains(frame: Frame) -> bool:
    file = frame.file.replace("\\", "/")
    by_file = file.endswith(_TRAINING) or any(part in file for part in _ENVIRONMENTS)
    return by_file or (is_users(frame) and _AVERAGES.search(frame.function) is not None)
