"""Edges of step-jitter, and the reasons for slow steps that are others."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import device, on_gpu, processes, rank, rows, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import step_jitter
from torchtop.record import StepRow
from torchtop.seen import GcPause, Seen
from torchtop.snapshot import Finding


def slow_steps(every: int, times: float, count: int = 400, **more: float) -> tuple[StepRow, ...]:
    """One step in `every`, by chance, takes `times` as long; more: column -> its share of what is added, `backward_s` by default."""
    given = more or {"backward_s": 1.0}
    found = []
    chance = random.Random(7)
    for row in rows(count):
        added = row.step_s * (times - 1) if chance.random() < 1 / every else 0.0
        columns: dict[str, Any] = {name: (getattr(row, name) or 0.0) + added * part for name, part in given.items()}
        found.append(row._replace(step_s=row.step_s + added, **columns))
    return tuple(found)


def job(steps: tuple[StepRow, ...], **changes: Any) -> Seen:
    return seen(rank(steps=steps, **changes))


@pytest.mark.parametrize(
    ("every", "times", "severity"),
    [
        (1000, 3.0, None),
        (10, 1.4, None),
        (10, 1.7, "info"),  # 6 % of the time
        (10, 3.0, "warn"),
        (25, 1.9, None),  # 4 %: not the 95th percentile, and less than twice at the 99th
        (25, 2.2, "info"),
        (2000, 5.0, None),
    ],
)
def test_severity_by_percentiles_and_what_they_cost(every: int, times: float, severity: str | None) -> None:
    found = step_jitter.check(job(slow_steps(every, times)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_tells_what_is_longer() -> None:
    found = step_jitter.check(job(slow_steps(10, 3.0, optimizer_s=1.0)))
    assert isinstance(found, Finding)
    assert found.where["phase"] == "the optimizer"


def test_waiting_for_data_is_another_rules() -> None:
    assert step_jitter.check(job(slow_steps(10, 3.0, data_s=1.0))) is None


def test_collections_are_another_rules() -> None:
    steps = slow_steps(10, 3.0, backward_s=0.0)
    pauses = tuple(GcPause(row.t_end - 0.01, 0.2, 2, None) for row in steps if row.step_s > 0.2)
    assert step_jitter.check(job(steps, gc_pauses=pauses)) is None


def test_inputs_of_different_size_are_work() -> None:
    """Backward pass and rest grow together."""
    found = step_jitter.check(job(slow_steps(10, 3.0, backward_s=0.6)))
    assert isinstance(found, Finding)
    assert found.severity == "info"
    assert "inputs differ in size" in found.summary


def test_steps_that_do_more_every_so_often_are_work() -> None:
    steps = tuple(
        row._replace(step_s=row.step_s + 0.2, backward_s=0.25) if at % 4 == 0 else row
        for at, row in enumerate(rows(400))
    )
    found = step_jitter.check(job(steps))
    assert isinstance(found, Finding)
    assert found.severity == "info"
    assert "every 4 steps" in found.summary


def test_batches_of_another_size_are_left_out() -> None:
    steps = tuple(
        row._replace(samples=64.0, step_s=row.step_s * 2) if at % 4 == 0 else row for at, row in enumerate(rows(400))
    )
    assert step_jitter.check(job(steps)) is None


def test_steps_that_all_differ_in_size_abstain() -> None:
    steps = tuple(row._replace(samples=float(at)) for at, row in enumerate(rows(400)))
    assert "1 of 40 steps are comparable" in judge(job(steps), [step_jitter]).abstained[0].reason


def test_a_contended_machine_makes_it_abstain() -> None:
    window = job(slow_steps(10, 3.0), processes=processes(run_delay_share=0.2))
    assert "had no core for 20%" in judge(window, [step_jitter]).abstained[0].reason


def test_a_job_that_slows_down_and_stays_slow_does_not_jitter() -> None:
    """Measured: Adam's state becomes denormal as a loss goes to zero, and its step takes 13 ms instead of 1 ms."""
    steps = tuple(
        row._replace(step_s=row.step_s * 2.2, optimizer_s=row.step_s * 1.25) if at >= 250 else row
        for at, row in enumerate(rows(400))
    )
    assert step_jitter.check(job(steps)) is None


@pytest.mark.parametrize(("every", "often"), [(10, "twenty"), (25, "a hundred")])
def test_it_says_how_often(every: int, often: str) -> None:
    found = step_jitter.check(job(slow_steps(every, 2.2)))
    assert isinstance(found, Finding)
    assert found.summary.startswith(f"one step in {often} takes 2.2 times")


def test_gaps_between_requests_are_no_jitter() -> None:
    window = seen(rank(steps=slow_steps(10, 3.0), training=False), mode="inference")
    assert judge(window, [step_jitter]).abstained[0].reason == "the job does not train"


@pytest.mark.parametrize(("util", "fires"), [(0.95, False), (0.5, True)])
def test_launches_on_a_busy_gpu_are_no_jitter(util: float, fires: bool) -> None:
    found = step_jitter.check(on_gpu(device(util=util), steps=slow_steps(10, 3.0)))
    assert isinstance(found, Finding) if fires else found is None


def test_a_gpu_that_cannot_be_read_makes_it_abstain() -> None:
    found = step_jitter.check(replace(on_gpu(steps=slow_steps(10, 3.0)), devices=()))
    assert isinstance(found, Abstain)


def test_ticks_of_the_scheduler_on_tiny_steps_are_none() -> None:
    steps = tuple(
        row._replace(step_s=0.0016 if at % 10 == 0 else 0.0008, data_s=0.0, backward_s=0.0, optimizer_s=0.0)
        for at, row in enumerate(rows(400))
    )
    assert step_jitter.check(job(steps)) is None
