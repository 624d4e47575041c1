"""Edges of worker-imbalance, and equal workers that deliver at the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.advisor.windows import facts, processes, rank, rows, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import worker_imbalance
from torchtop.record import StepRow
from torchtop.seen import LoaderFacts, Seen, StackCount, Stacks
from torchtop.snapshot import Finding, Frame


def in_turns(workers: int, wait_s: float, count: int = 120, micro_steps: int = 1) -> tuple[StepRow, ...]:
    """Every `workers`-th step waits."""
    return tuple(
        row._replace(
            data_s=wait_s if at % workers == 0 else 0.0,
            step_s=row.step_s + (wait_s if at % workers == 0 else 0.0),
            micro_steps=micro_steps,
        )
        for at, row in enumerate(rows(count))
    )


def job(cores: Sequence[float], **changes: Any) -> Seen:
    alive = {5000 + at: processes(pid=5000 + at, cpu_share=share) for at, share in enumerate(cores)}
    fields: dict[str, Any] = {
        "steps": in_turns(len(cores), 0.3),
        "workers": alive,
        "facts": facts(loader=LoaderFacts(workers=len(cores))),
    }
    return seen(rank(**{**fields, **changes}))


@pytest.mark.parametrize(
    ("cores", "fires"),
    [
        ((0.9, 0.1, 0.1), True),
        ((0.9, 0.35, 0.35), True),
        ((0.9, 0.37, 0.37), False),  # less than 2.5 times
        ((0.28, 0.01, 0.01), False),  # less than 30 %
        ((0.9, 0.9, 0.9), False),  # equal, all too slow: the waits fall on every third batch all the same
        ((0.9, 0.1), True),
        ((0.9,), False),
    ],
)
def test_one_worker_that_computes_far_more_than_the_others(cores: Sequence[float], fires: bool) -> None:
    assert isinstance(worker_imbalance.check(job(cores)), Finding) == fires


def test_it_names_the_process_and_explains_the_waiting() -> None:
    verdict = judge(job((0.1, 0.9, 0.1)))
    assert [one.code for one in verdict.findings][:1] == ["worker-imbalance"]
    assert "input-bound" in {one.code for one in verdict.abstained}
    assert (verdict.findings[0].where["process"], verdict.findings[0].where["worker"]) == (5001, 1)
    assert verdict.findings[0].confidence == "high"


def test_one_of_two_workers_explains_the_waiting() -> None:
    """A balance gives back less than half of it."""
    verdict = judge(job((0.9, 0.35), steps=in_turns(2, 1.0)))
    assert verdict.findings[0].code == "worker-imbalance"
    assert "explained by worker-imbalance" in {one.reason for one in verdict.abstained if one.code == "input-bound"}


def test_no_waiting_no_imbalance() -> None:
    assert worker_imbalance.check(job((0.9, 0.1, 0.1), steps=rows())) is None


def test_workers_that_sleep_cannot_be_told_apart_without_stacks() -> None:
    verdict = judge(job((0.02, 0.02, 0.02)), [worker_imbalance])
    assert "their stacks were not sampled" in verdict.abstained[0].reason


@pytest.mark.parametrize(("slow_one", "others", "fires"), [(36, 2, True), (36, 36, False)])
def test_stacks_tell_who_sleeps_in_the_dataset(slow_one: int, others: int, fires: bool) -> None:
    fetch = Frame(function="fetch", file="/x/site-packages/torch/utils/data/_utils/fetch.py", line=54)
    nap = Frame(function="__getitem__", file="/job/data.py", line=9)
    stacks = tuple(
        Stacks(pid=5000 + at, samples=40, rate_hz=20.0, counts=(StackCount(frames=(nap, fetch), count=count),))
        for at, count in enumerate((slow_one, others, others))
    )
    found = worker_imbalance.check(job((0.02, 0.02, 0.02), stacks=stacks))
    assert isinstance(found, Finding) == fires


def test_several_batches_a_step_that_do_not_divide_say_nothing_of_turns() -> None:
    found = worker_imbalance.check(job((0.9, 0.1, 0.1), steps=in_turns(3, 0.3, micro_steps=2)))
    assert isinstance(found, Finding)
    assert found.confidence == "medium"
    assert not any("falls on every" in one.name for one in found.evidence)


def test_workers_of_two_loaders_are_not_compared() -> None:
    """One loader's only worker computes, the other's waits for the next validation."""
    found = worker_imbalance.check(job((0.9, 0.0), facts=facts(loader=LoaderFacts(workers=1))))
    assert not isinstance(found, Finding)
