"""Edges of rank-memory-imbalance."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.advisor.windows import GIB, PID, device, facts, hosts, processes, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import rank_memory_imbalance
from torchtop.seen import Allocator
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


@pytest.mark.parametrize(("total", "severity"), [(80, "info"), (30, "warn"), (19, "critical")])
def test_the_fullest_rank_on_its_own_gpu(total: int, severity: str) -> None:
    """10 and 6 GiB, each on a GPU of its own; of the other one there are 16 GiB, and a third is not the job's."""
    gpus = [
        replace(device(index=at, uuid=f"GPU-{at}", memory_total_bytes=size * GIB), job_pids=pids)
        for at, (size, pids) in enumerate(((16, (PID,)), (total, (PID + 1,)), (4, ())))
    ]
    held = [(Allocator(t=1.0, allocated_bytes=GIB, reserved_bytes=GIB, peak_bytes=size * GIB),) for size in (6, 10)]
    job = two_ranks({"allocator": held[0]}, {"allocator": held[1]}, facts=facts(devices=("cuda",)))
    found = rank_memory_imbalance.check(replace(job, devices=tuple(gpus)))
    assert isinstance(found, Finding)
    assert (found.severity, found.where["rank"]) == (severity, 1)


def test_a_rank_that_was_not_read_makes_it_abstain() -> None:
    verdict = judge(two_ranks({}, {"processes": ()}), [rank_memory_imbalance])
    assert verdict.abstained[0].reason == "memory of 1 of 2 ranks was read"
