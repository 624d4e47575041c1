"""Edges of gc-pauses: share of the time, and the line that sets them off."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.advisor.windows import NOW, rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import gc_pauses
from torchtop.seen import PAUSES_KEPT, GcPause, Seen
from torchtop.snapshot import Finding, Frame

TREE = Frame(function="grow", file="/job/tree.py", line=33)
OTHER = Frame(function="main", file="/job/train.py", line=9)


def job(seconds: float, period_s: float = 0.5, count: int = 40, explicit: bool = False) -> Seen:
    pauses = tuple(
        GcPause(NOW - 0.1 - period_s * at, seconds, 2, OTHER if at % 5 == 0 else TREE, explicit)
        for at in range(count - 1, -1, -1)
    )
    return seen(rank(gc_pauses=pauses))


@pytest.mark.parametrize(
    ("seconds", "severity"),
    [(0.004, None), (0.006, "info"), (0.024, "info"), (0.026, "warn"), (0.09, "warn"), (0.11, "critical")],
)
def test_severity_by_the_share_of_time(seconds: float, severity: str | None) -> None:
    found = gc_pauses.check(job(seconds))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_the_line_that_costs_most() -> None:
    found = gc_pauses.check(job(0.05))
    assert isinstance(found, Finding)
    assert (found.where["file"], found.where["line"]) == ("/job/tree.py", 33)
    assert "the garbage collector takes 10%" in found.summary
    assert found.recoverable_s == pytest.approx(0.01, rel=0.05)


def test_a_call_is_told_from_an_allocation() -> None:
    found = gc_pauses.check(job(0.05, explicit=True))
    assert isinstance(found, Finding)
    assert "gc.collect() takes" in found.summary
    assert found.where["explicit"] is True


def test_a_single_long_collection_is_not_called_a_habit() -> None:
    assert gc_pauses.check(job(1.0, count=1)) is None


def test_one_burst_is_not_spread_over_the_window() -> None:
    """Ten collections within a second, and none before or after."""
    assert gc_pauses.check(job(0.02, period_s=0.1, count=10)) is None


def test_older_pauses_than_are_kept_did_not_stay_away() -> None:
    """A window of 1,000 s, of which the latest 4,000 are the last 200 s."""
    often = replace(job(0.01, period_s=0.05, count=PAUSES_KEPT), window_s=1_000.0)
    found = gc_pauses.check(often)
    assert isinstance(found, Finding)
    assert found.share == pytest.approx(0.2, rel=0.02)


def test_it_explains_steps_that_vary() -> None:
    verdict = judge(job(0.15))
    assert verdict.findings[0].code == "gc-pauses"
