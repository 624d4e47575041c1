"""Edges of loader-oversubscribed: more workers than cores, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.rules.test_input_bound import epochs
from tests.advisor.windows import NOW, facts, hosts, processes, rank, rows, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import loader_oversubscribed
from torchtop.advisor.suppression import explained
from torchtop.record import Neighbour
from torchtop.seen import LoaderFacts, Seen
from torchtop.snapshot import Finding


def job(workers: int, delay: float | None, cores: float = 0.5, **changes: Any) -> Seen:
    alive = {5000 + at: processes(pid=5000 + at, cpu_share=cores) for at in range(workers)}
    slow = rank(
        processes=processes(run_delay_share=delay, cpu_share=0.6),
        workers=alive,
        facts=facts(loader=LoaderFacts(workers=workers)),
        **changes,
    )
    return seen(slow, host=hosts(cpu_util=0.9))


@pytest.mark.parametrize(
    ("workers", "delay", "severity"),
    [
        (8, 0.6, None),  # as many as cores
        (16, 0.18, None),
        (16, 0.22, "warn"),  # half of them are too many
        (16, 0.7, "critical"),
        (9, 0.6, None),  # one of nine: fewer workers would hardly help
    ],
)
def test_severity_by_workers_and_what_they_cost(workers: int, delay: float, severity: str | None) -> None:
    found = loader_oversubscribed.check(job(workers, delay))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_workers_that_only_wait_crowd_nobody() -> None:
    assert loader_oversubscribed.check(job(32, 0.5, cores=0.01)) is None


def test_delay_by_a_stranger_is_not_theirs() -> None:
    window = job(16, 0.5, cores=0.1)
    busy = (Neighbour(t=NOW, pid=9, name="stress", cores=6.0),)
    other = seen(*window.ranks, host=window.host, neighbours=busy)
    assert loader_oversubscribed.check(other) is None


@pytest.mark.parametrize(("util", "told"), [(0.9, False), (0.97, True)])
def test_waiting_for_data_counts_where_no_core_is_idle(util: float, told: bool) -> None:
    window = job(16, 0.0, cores=0.3, steps=rows(data=0.3))
    found = loader_oversubscribed.check(replace(window, host=hosts(cpu_util=util)))
    assert isinstance(found, Finding) == told


@pytest.mark.parametrize(("cores", "told"), [(0.3, False), (0.5, True)])
def test_waiting_for_data_counts_where_the_workers_use_all_cores(cores: float, told: bool) -> None:
    """16 of them on 8 cores, and a step that waits 30 % of its time: with fewer, each would be as much faster."""
    found = loader_oversubscribed.check(job(16, 0.0, cores=cores, steps=rows(data=0.3)))
    assert isinstance(found, Finding) == told


def test_their_start_in_each_epoch_counts() -> None:
    found = loader_oversubscribed.check(job(32, 0.0, steps=epochs(5, 40, 1.0)))
    assert isinstance(found, Finding)
    assert "32 loader workers on 8 cores" in found.summary


def test_it_explains_the_waiting() -> None:
    found = loader_oversubscribed.check(job(32, 0.0, steps=epochs(5, 40, 3.0)))
    assert isinstance(found, Finding)
    verdict = judge(job(32, 0.0, steps=epochs(5, 40, 3.0)))
    assert verdict.findings[0].code == "loader-oversubscribed"
    assert explained([found])[0] == (found,)


def test_without_schedstat_it_abstains() -> None:
    verdict = judge(job(16, None, cores=0.1), [loader_oversubscribed])
    assert "does not tell how long" in verdict.abstained[0].reason
