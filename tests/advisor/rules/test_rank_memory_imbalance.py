"""Edges of rank-memory-imbalance."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.advisor.windows import GIB, hosts, processes, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import rank_memory_imbalance
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("first", "second", "memory", "severity"),
    [
        (10.0, 8.1, 64, None),
        (10.0, 7.9, 64, "info"),  # 28 % of the memory is used
        (10.0, 7.9, 59, "warn"),
        (10.0, 7.9, 20, "warn"),  # 90 %, but less than 30 % apart
        (10.0, 6.9, 33, "critical"),
        (10.0, 6.9, 35, "warn"),
        (0.3, 0.1, 64, None),  # 205 MiB
        (0.5, 0.2, 64, "info"),
    ],
)
def test_severity_by_spread_and_pressure(first: float, second: float, memory: int, severity: str | None) -> None:
    job = two_ranks(
        {"processes": processes(rss_bytes=int(second * GIB))}, {"processes": processes(rss_bytes=int(first * GIB))}
    )
    found = rank_memory_imbalance.check(replace(job, host=hosts(memory_bytes=memory * GIB)))
    assert (found.severity if isinstance(found, Finding) else None) == severity
    if isinstance(found, Finding):
        assert found.where["rank"] == 1


def test_a_rank_that_was_not_read_makes_it_abstain() -> None:
    verdict = judge(two_ranks({}, {"processes": ()}), [rank_memory_imbalance])
    assert verdict.abstained[0].reason == "memory of 1 of 2 ranks was read"
