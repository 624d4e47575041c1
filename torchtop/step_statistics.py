"""Step times, throughput and phases of one rank, from its rows and armed steps. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from statistics import fmean, median
from typing import TypeVar

from msgspec import Struct

from torchtop.probe import wire
from torchtop.record import StepRow
from torchtop.snapshot import Phases
from torchtop.timeline import ArmedStep
from torchtop.window import Batch

_T = TypeVar("_T")

_FLAGS_OF = itemgetter(StepRow._fields.index("flags"))
_USUAL = 0.5  # share of steps: a tag on more of them than this is how this loop works, not an exception
_FAVOURED = (wire.IDLE, wire.SKIPPED, wire.COMPILED, wire.VALIDATION, wire.CHECKPOINT, wire.FIRST_OF_EPOCH)


class StepStatistics(Struct, frozen=True):
    """See snapshot.Distribution and snapshot.Steps for the meaning of each."""

    count: int
    mean_s: float | None
    median_s: float | None
    p95_s: float | None
    samples_per_s: float | None
    tokens_per_s: float | None
    batch_size: float | None
    micro_steps: float | None
    excluded: dict[str, int]
    reasons: dict[str, str] = {}


def statistics(rows: Collection[StepRow], batch: Batch) -> StepStatistics:
    """Summarise complete steps. Armed ones count for throughput, not for times: they are not like the others.

    A screen asks every second and for every rank, of which each has up to 20,000 rows: so whole columns are taken.
    """
    if not rows:
        return StepStatistics(0, None, None, None, None, None, None, None, {})
    _, step_s, flags, micro_steps, given, *_ = zip(*rows, strict=True)
    tags = Counter(flags)
    masks = _unusual(tags)
    excluded: Counter[str] = Counter()
    for tag, steps in tags.items():
        if flag := _first_flag(tag & masks):
            excluded[wire.FLAG_NAMES[flag]] += steps

    def of(column: Sequence[_T], wanted: Callable[[int], bool]) -> Sequence[_T]:
        kept = {tag: wanted(tag) for tag in tags}
        return column if all(kept.values()) else tuple(compress(column, map(kept.__getitem__, flags)))

    plain = sorted(of(step_s, lambda tag: not tag & (wire.ARMED | masks)))
    ordered = plain
    if any(tag & masks & ~wire.IDLE and not tag & (wire.ARMED | wire.IDLE) for tag in tags):
        ordered = sorted(of(step_s, lambda tag: not tag & (wire.ARMED | wire.IDLE)))
    working_s = of(step_s, lambda tag: not tag & wire.IDLE)
    wall = sum(working_s)
    samples = _samples(of(given, lambda tag: not tag & wire.IDLE), batch)
    reasons = dict.fromkeys(("samples_per_s", "batch_size"), _why_no_samples(batch)) if samples is None else {}
    per_sample = batch.tokens / batch.samples if batch.tokens and batch.samples else None
    rate = samples / wall if samples is not None and wall else None
    return StepStatistics(
        count=len(rows),
        mean_s=fmean(plain) if plain else None,
        median_s=median(plain) if plain else None,
        p95_s=percentile(ordered, 0.95),
        samples_per_s=rate,
        tokens_per_s=rate * per_sample if rate is not None and per_sample is not None else None,
        batch_size=samples / len(working_s) if samples is not None and working_s else None,
        micro_steps=fmean(micro_steps) if any(micro_steps) else None,
        excluded=dict(excluded),
        reasons=reasons,
    )


def batches(rows: Collection[StepRow], batch: Batch) -> tuple[float | None, float | None]:
    """(samples, backward passes) of a step, as in StepStatistics: all that is wanted of the ranks that are judged."""
    given = [row.samples for row in rows if not row.flags & wire.IDLE]
    passes = sum([row.micro_steps for row in rows])
    samples = _samples(given, batch)
    return samples / len(given) if samples is not None and given else None, passes / len(rows) if passes else None


def _samples(given: Sequence[float | None], batch: Batch) -> float | None:
    """Of all steps together. given: what the loader handed out in each, which is exact; without a loader, the armed step's
    batch stands for all.
    """
    counted = [samples for samples in given if samples is not None]
    known = None if batch.recalled else batch.samples
    return sum(counted) if counted else None if known is None else known * len(given)


def plain_rows(rows: Collection[StepRow]) -> tuple[tuple[StepRow, ...], dict[str, int]]:
    """(rows that are unarmed and not excluded, reason -> how many rows were excluded)."""
    flags = [*map(_FLAGS_OF, rows)]
    tags = {tag: flags.count(tag) for tag in set(flags)}
    masks = _unusual(tags)
    excluded: Counter[str] = Counter()
    for tag, steps in tags.items():
        if flag := _first_flag(tag & masks):
            excluded[wire.FLAG_NAMES[flag]] += steps
    kept = {tag: not tag & (wire.ARMED | masks) for tag in tags}
    if all(kept.values()):
        return tuple(rows), dict(excluded)
    return tuple(compress(rows, map(kept.__getitem__, flags))), dict(excluded)


def _why_no_samples(batch: Batch) -> str:
    if batch.recalled:
        return (
            "no DataLoader, and the model is called several times a step: which of its inputs are samples is not known"
        )
    return "no DataLoader, and no input of a module was seen yet"


_NOT_SEEN = {
    "data": "no DataLoader was iterated on the training thread",
    "forward": "no module was called in the armed steps",
    "backward": "no backward pass in the armed steps",
    "optimizer": "no optimizer step in the armed steps",
}
_COMPILED = "the model is compiled and not looked into: its forward is in `other`"


def phases(armed: Sequence[ArmedStep], communicates: bool) -> tuple[Phases | None, float | None, dict[str, str]]:
    """(mean phases, mean step, phase -> why it is null) of armed steps. Phases that were measured sum to the step."""
    if not armed:
        return None, None, {}
    found = {name: _mean_over_all([step.phases[name] for step in armed]) for name in _NOT_SEEN}
    reasons = {name: reason for name, reason in _NOT_SEEN.items() if found[name] is None}
    return _with_other(found, fmean(step.step_s for step in armed), reasons, communicates)


def phases_of_compiled(
    rows: Sequence[StepRow], communicates: bool
) -> tuple[Phases | None, float | None, dict[str, str]]:
    """The same of a compiled model, which is never armed: what the resident hooks saw of every plain step."""
    masks = _unusual(Counter(row.flags for row in rows))
    plain = [row for row in rows if not row.flags & masks]
    if not plain:
        return None, None, {}
    found = {
        "data": _mean_over_all([row.data_s for row in plain]),
        "forward": None,
        "backward": _mean_over_all([row.backward_s for row in plain]),
        "optimizer": _mean_over_all([row.optimizer_s for row in plain]),
    }
    reasons = {name: reason for name, reason in _NOT_SEEN.items() if found[name] is None} | {"forward": _COMPILED}
    return _with_other(found, fmean(row.step_s for row in plain), reasons, communicates)


def _with_other(
    found: dict[str, float | None], step_s: float, reasons: dict[str, str], communicates: bool
) -> tuple[Phases, float, dict[str, str]]:
    reasons["transfer"] = "not measurable on CPU: copies are not apart from compute"
    reasons["communication"] = (
        "exposed all-reduce time inside backward is not separated on CPU"
        if communicates
        else "the job has one rank, nothing is communicated"
    )
    known = sum(value for value in found.values() if value is not None)
    return Phases(**found, transfer=None, communication=None, other=max(step_s - known, 0.0)), step_s, reasons


def _mean_over_all(values: Sequence[float | None]) -> float | None:
    """Mean, where None is no time at all, unless all are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if known else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of the values do not exceed (nearest rank), None when there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _unusual(tags: Mapping[int, int]) -> int:
    """Flags that mark a minority of the steps; idle time is none, however often. tags: flags -> steps that have them."""
    mask = wire.IDLE
    for flag in _FAVOURED:
        tagged = sum(steps for tag, steps in tags.items() if tag & flag)
        if tagged <= _USUAL * sum(tags.values()):
            mask |= flag
    return mask


def _first_flag(flags: int) -> int:
    """The reason that is named when a step has several."""
    return next((flag for flag in _FAVOURED if flags & flag), 0)
