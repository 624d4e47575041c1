"""Step times, throughput and phases of one rank, from its rows and armed steps. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from msgspec import Struct

from torchtop.probe import wire
from torchtop.snapshot import Phases
from torchtop.timeline import ArmedStep
from torchtop.window import Batch, StepRow

_USUAL = 0.5  # share of steps: a tag on more of them than this is how this loop works, not an exception
_FAVOURED = (wire.SKIPPED, wire.COMPILED, wire.VALIDATION, wire.CHECKPOINT, wire.FIRST_OF_EPOCH)


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


def statistics(rows: Sequence[StepRow], batch: Batch) -> StepStatistics:
    """Summarise complete steps. Armed ones count for throughput, not for times: they are not like the others."""
    if not rows:
        return StepStatistics(0, None, None, None, None, None, None, None, {})
    masks = _unusual(rows)
    excluded = Counter(wire.FLAG_NAMES[flag] for row in rows if (flag := _first_flag(row.flags & masks)))
    unarmed = [row for row in rows if not row.flags & wire.ARMED]
    plain = [row.step_s for row in unarmed if not row.flags & masks]
    wall = sum(row.step_s for row in rows)
    counted = [row.samples for row in rows if row.samples is not None]
    # What the loader handed out is exact; without a loader, the armed step's batch stands for all.
    samples = sum(counted) if counted else None if batch.samples is None else batch.samples * len(rows)
    per_sample = batch.tokens / batch.samples if batch.tokens and batch.samples else None
    rate = samples / wall if samples is not None and wall else None
    return StepStatistics(
        count=len(rows),
        mean_s=fmean(plain) if plain else None,
        median_s=median(plain) if plain else None,
        p95_s=percentile([row.step_s for row in unarmed], 0.95),
        samples_per_s=rate,
        tokens_per_s=rate * per_sample if rate is not None and per_sample is not None else None,
        batch_size=samples / len(rows) if samples is not None else None,
        micro_steps=fmean(row.micro_steps for row in rows) if any(row.micro_steps for row in rows) else None,
        excluded=dict(excluded),
    )


def phases(armed: Sequence[ArmedStep], communicates: bool) -> tuple[Phases | None, float | None, dict[str, str]]:
    """(mean phases, mean step, phase -> why it is null) of armed steps. Phases that were measured sum to the step."""
    if not armed:
        return None, None, {}
    step_s = fmean(step.step_s for step in armed)
    found: dict[str, float | None] = {}
    for name in ("data", "forward", "backward", "optimizer"):
        seen = [step.phases[name] for step in armed]
        found[name] = sum(s for s in seen if s is not None) / len(armed) if any(s is not None for s in seen) else None
    reasons = {
        name: reason
        for name, reason in {
            "data": "no DataLoader was iterated on the training thread",
            "forward": "no module was called in the armed steps",
            "backward": "no backward pass in the armed steps",
            "optimizer": "no optimizer step in the armed steps",
        }.items()
        if found[name] is None
    }
    reasons["transfer"] = "not measurable on CPU: copies are not apart from compute"
    reasons["communication"] = (
        "exposed all-reduce time inside backward is not separated on CPU"
        if communicates
        else "the job has one rank, nothing is communicated"
    )
    known = sum(value for value in found.values() if value is not None)
    return Phases(**found, transfer=None, communication=None, other=max(step_s - known, 0.0)), step_s, reasons


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of the values do not exceed (nearest rank), None when there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _unusual(rows: Sequence[StepRow]) -> int:
    """Flags that mark a minority of the steps."""
    mask = 0
    for flag in _FAVOURED:
        tagged = sum(1 for row in rows if row.flags & flag)
        if tagged <= _USUAL * len(rows):
            mask |= flag
    return mask


def _first_flag(flags: int) -> int:
    """The reason that is named when a step has several."""
    return next((flag for flag in _FAVOURED if flags & flag), 0)
