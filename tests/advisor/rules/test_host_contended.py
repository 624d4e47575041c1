"""Edges of host-contended, and who else may be the reason."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import NOW, facts, hosts, processes, rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import host_contended
from torchtop.record import Neighbour
from torchtop.seen import Seen
from torchtop.snapshot import Finding


def job(delay: float | None, stranger: float | None, util: float = 1.0, threads: int = 1, **changes: Any) -> Seen:
    slow = rank(processes=processes(run_delay_share=delay), facts=facts(threads=threads), **changes)
    busy = None if stranger is None else (Neighbour(t=NOW, pid=77, name="stress", cores=stranger),) if stranger else ()
    return seen(slow, neighbours=busy, host=hosts(cpu_util=util))


@pytest.mark.parametrize(
    ("delay", "stranger", "util", "severity"),
    [
        (0.09, 7.0, 1.0, None),
        (0.11, 7.0, 1.0, "warn"),
        (0.4, 7.0, 1.0, "critical"),
        (0.4, 0.4, 0.18, None),  # nobody else: it waits for itself
        (0.4, 0.6, 0.88, "critical"),
    ],
)
def test_severity_by_the_time_without_a_core(delay: float, stranger: float, util: float, severity: str | None) -> None:
    found = host_contended.check(job(delay, stranger, util))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_the_process() -> None:
    found = host_contended.check(job(0.4, 7.0))
    assert isinstance(found, Finding)
    assert (found.where["process"], found.where["process_pid"]) == ("stress", 77)
    assert found.summary.startswith("stress (pid 77) takes 7.0 cores")


def test_whom_a_container_does_not_see_is_what_the_machine_uses_beyond_the_job() -> None:
    found = host_contended.check(job(0.4, 0.0, util=1.0))
    assert isinstance(found, Finding)
    assert found.where["process"] is None
    assert "cannot be seen from here" in found.summary


def test_its_own_workers_are_no_strangers() -> None:
    alive = {5000 + at: processes(pid=5000 + at, cpu_share=1.0) for at in range(6)}
    assert host_contended.check(job(0.4, 1.0, workers=alive)) is None


@pytest.mark.parametrize(
    ("threads", "policy", "spins"), [(8, None, True), (8, "passive", False), (1, None, False), (2, None, True)]
)
def test_threads_that_spin_are_named(threads: int, policy: str | None, spins: bool) -> None:
    window = job(0.4, 7.0, threads=threads)
    told = facts(threads=threads, environment={"OMP_WAIT_POLICY": policy} if policy else {})
    window = seen(rank(processes=window.ranks[0].processes, facts=told), neighbours=window.neighbours, host=window.host)
    found = host_contended.check(window)
    assert isinstance(found, Finding)
    assert ("OMP_WAIT_POLICY=passive" in found.summary) == spins


@pytest.mark.parametrize(("util", "fires"), [(0.5, False), (0.86, False), (0.9, True)])
def test_strangers_are_not_blamed_while_cores_are_idle(util: float, fires: bool) -> None:
    """A quota of CPU time, or ranks that are pinned to one core, on a machine that others use as well."""
    found = host_contended.check(job(0.4, 3.0, util=util))
    assert isinstance(found, Finding) if fires else isinstance(found, Abstain) and "are idle" in found.reason


def test_ranks_that_are_not_attached_are_no_strangers() -> None:
    window = job(0.4, 0.0)
    assert isinstance(host_contended.check(window), Finding)
    assert host_contended.check(replace(window, world_size=4)) is None


def test_without_schedstat_it_abstains() -> None:
    assert "does not tell" in judge(job(None, 7.0), [host_contended]).abstained[0].reason
