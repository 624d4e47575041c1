"""What a rule may answer, and the pieces that answers are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torchtop.advisor.statistics import Interval
from torchtop.seen import Seen
from torchtop.snapshot import Evidence, Finding

Severity = Literal["info", "warn", "critical"]
Confidence = Literal["low", "medium", "high"]
RANK = {"critical": 0, "warn": 1, "info": 2}  # worst first


class Abstain(NamedTuple):
    """A rule cannot judge this window. reason: what is missing, in words for a person."""

    reason: str


Judgement = Finding | Abstain | None


class Rule(Protocol):
    """A file of `advisor/rules`. `check` answers None when all is well."""

    @property
    def __doc__(self) -> str | None: ...  # type: ignore[override]
    @property
    def CODE(self) -> str: ...
    @property
    def NEEDS(self) -> tuple[str, ...]:
        """Names of `needs.NEEDS`: without one of them the rule is not asked, and listed as abstaining."""
        ...

    @property
    def REMEDIES(self) -> tuple[str, ...]:
        """Names of remedies that may cure it, the likeliest first."""
        ...

    @property
    def MIN_STEPS(self) -> int:
        """Plain steps of the slowest rank that it takes to judge."""
        ...

    def check(self, seen: Seen) -> Judgement: ...


def measured(name: str, interval: Interval, unit: str, window_s: float) -> Evidence:
    """A mean with its uncertainty."""
    return Evidence(name=name, value=interval.mean, unit=unit, window_s=window_s, low=interval.low, high=interval.high)


def number(name: str, value: float, unit: str, window_s: float) -> Evidence:
    """A reading, a count or a setting: there is nothing uncertain about it."""
    return Evidence(name=name, value=value, unit=unit, window_s=window_s)


def severity(value: float, warn: float, critical: float | None = None) -> Severity | None:
    """How bad `value` is by two thresholds; None below both. Hand in the low end of an interval, not its mean."""
    if critical is not None and value >= critical:
        return "critical"
    return "warn" if value >= warn else None


def confidence(low: float, threshold: float, count: int) -> Confidence:
    """How sure that a mean of `count` values whose interval begins at `low` is above `threshold`."""
    if low >= 1.5 * threshold and count >= 40:
        return "high"
    return "medium" if low >= threshold else "low"
