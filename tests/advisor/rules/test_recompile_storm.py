"""Edges of recompile-storm, and compilations that are none."""

from __future__ import annotations

import pytest

from tests.advisor.windows import facts, rank, rows, seen
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import recompile_storm
from torchtop.probe import wire
from torchtop.record import StepRow
from torchtop.seen import Compilation
from torchtop.snapshot import Finding, Frame


def storm(each: int, compile_s: float, count: int = 200) -> tuple[StepRow, ...]:
    """Steps of 0.1 s, of which every `each`-th compiles for `compile_s` beside."""
    found, end = [], 0.0
    for at, row in enumerate(rows(count)):
        compiles = at % each == 0
        step_s = row.step_s + (compile_s if compiles else 0.0)
        end += step_s
        found.append(row._replace(t_end=end, step_s=step_s, flags=wire.COMPILED if compiles else 0))
    return tuple(found)


@pytest.mark.parametrize(
    ("each", "compile_s", "severity"),
    [(10, 0.05, None), (10, 0.2, "warn"), (10, 2.0, "critical"), (1, 0.0, None), (40, 20.0, None)],
)
def test_severity_by_the_time_lost(each: int, compile_s: float, severity: str | None) -> None:
    """The last one compiles 5 times, of which 3 are warm-up."""
    found = recompile_storm.check(seen(rank(steps=storm(each, compile_s))))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_every_step_may_compile() -> None:
    quick = storm(1, 2.0, 12)[:1]
    steps = (*quick, *(row._replace(step_s=row.step_s * 10) for row in storm(1, 2.0, 12)[1:]))
    found = recompile_storm.check(seen(rank(steps=steps)))
    assert isinstance(found, Finding)
    assert found.severity == "critical"


def test_where_every_step_compiles_dynamo_says_how_long_that_takes() -> None:
    """Steps of 0.1 s that are all alike, of which 0.06 s are compiling."""
    at = Frame(function="forward", file="/job/model.py", line=12)
    known = facts(compilations=(Compilation(at=at, count=50, seconds=3.0, reason="L['self'].calls == 7"),))
    found = recompile_storm.check(seen(rank(steps=storm(1, 0.0), facts=known)))
    assert isinstance(found, Finding)
    assert found.share == pytest.approx(0.6, abs=0.05)
    assert (found.where["file"], found.where["line"]) == ("/job/model.py", 12)


def test_it_gives_back_the_time_beyond_an_ordinary_step() -> None:
    found = recompile_storm.check(seen(rank(steps=storm(10, 1.0))))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(17 * 1.0 / 200, rel=0.05)  # 20 compile, 3 of them to warm up


def test_a_warm_up_and_ends_of_epochs_are_no_storm() -> None:
    steps = list(rows(200))
    for at in (0, 1, 2, 50, 100, 150):
        steps[at] = steps[at]._replace(step_s=5.0, flags=wire.COMPILED)
    assert recompile_storm.check(seen(rank(steps=tuple(steps)))) is None


def test_idle_time_is_no_step() -> None:
    steps = tuple(row._replace(flags=row.flags | wire.IDLE) for row in storm(10, 2.0))
    assert recompile_storm.check(seen(rank(steps=steps))) is None
    assert not isinstance(recompile_storm.check(seen(rank(steps=rows(1)))), Abstain)
