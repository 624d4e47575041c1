"""Edges of swapping, and whose memory it is."""

from __future__ import annotations

import pytest

from tests.advisor.windows import hosts, processes, rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import swapping
from torchtop.seen import Seen
from torchtop.snapshot import Finding


def job(bytes_per_s: float | None, faults: float | None) -> Seen:
    return seen(rank(processes=processes(major_faults_per_s=faults)), host=hosts(swap_in_bytes_per_s=bytes_per_s))


@pytest.mark.parametrize(
    ("bytes_per_s", "faults", "severity"),
    [
        (0.0, 500.0, None),  # files that are read for the first time
        (0.9e6, 500.0, None),
        (1.1e6, 500.0, "warn"),
        (25e6, 500.0, "critical"),
        (10e6, 100.0, None),  # a third of it at most is this job's
        (10e6, 200.0, "warn"),
    ],
)
def test_severity_by_what_comes_back_from_swap(bytes_per_s: float, faults: float, severity: str | None) -> None:
    found = swapping.check(job(bytes_per_s, faults))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_worker_that_swaps_is_named() -> None:
    slow = rank(workers={5001: processes(pid=5001, major_faults_per_s=400.0)})
    found = swapping.check(seen(slow, host=hosts(swap_in_bytes_per_s=5e6)))
    assert isinstance(found, Finding)
    assert found.where["process"] == 5001


@pytest.mark.parametrize(
    ("bytes_per_s", "faults", "reason"), [(None, 1.0, "was not read"), (5e6, None, "whether it is this job's")]
)
def test_what_was_not_read_makes_it_abstain(bytes_per_s: float | None, faults: float | None, reason: str) -> None:
    assert reason in judge(job(bytes_per_s, faults), [swapping]).abstained[0].reason
