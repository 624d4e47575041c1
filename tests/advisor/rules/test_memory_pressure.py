"""Edges of memory-pressure, on the host and on a GPU."""

from __future__ import annotations

import pytest

from tests.advisor.windows import GIB, NOW, device, facts, hosts, on_gpu, processes, rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import memory_pressure
from torchtop.seen import Allocator, Seen
from torchtop.snapshot import Finding

LIMIT = 10 * GIB


def on_host(part: float, stalls: float | None = 0.0, workers: float = 0.0) -> Seen:
    bounds = {"cgroup_memory_limit_bytes": LIMIT, "cgroup_memory_bytes": LIMIT}
    alive = {5001: processes(pid=5001, rss_bytes=int(workers * LIMIT))} if workers else {}
    slow = rank(processes=processes(rss_bytes=int(part * LIMIT), **bounds), workers=alive)
    return seen(slow, host=hosts(memory_pressure=stalls))


@pytest.mark.parametrize(
    ("part", "severity"), [(0.5, None), (0.89, None), (0.91, "warn"), (0.96, "warn"), (0.98, "critical")]
)
def test_severity_by_the_part_of_the_cgroups_limit(part: float, severity: str | None) -> None:
    """The kernel's cache of files fills the cgroup in each of these cases."""
    found = memory_pressure.check(on_host(part))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_mapped_files_do_not_count() -> None:
    """Eight ranks that map the same file of 40 GiB on a machine of 64."""
    files = processes(rss_bytes=41 * GIB, private_bytes=GIB)
    ranks = tuple(rank(rank=at, pid=4001 + at, processes=files) for at in range(8))
    assert memory_pressure.check(seen(*ranks, host=hosts(memory_available_bytes=50 * GIB))) is None


@pytest.mark.parametrize(("available", "severity"), [(12, None), (5, "warn")])
def test_memory_that_ranks_share_is_there_once(available: int, severity: str | None) -> None:
    shared = processes(rss_bytes=41 * GIB, private_bytes=41 * GIB)
    ranks = tuple(rank(rank=at, pid=4001 + at, processes=shared) for at in range(8))
    found = memory_pressure.check(seen(*ranks, host=hosts(memory_available_bytes=available * GIB)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(("stalls", "fires"), [(0.0, False), (0.09, False), (0.11, True), (None, False)])
def test_workers_share_pages_and_count_only_where_memory_stalls(stalls: float | None, fires: bool) -> None:
    assert isinstance(memory_pressure.check(on_host(0.5, stalls, workers=0.5)), Finding) == fires


def test_without_a_limit_it_abstains() -> None:
    verdict = judge(seen(rank(), host=()), [memory_pressure])
    assert "or its limit" in verdict.abstained[0].reason


def gpu_job(part: float, retries: int = 0) -> Seen:
    peak = int(part * 80 * GIB)
    readings = (Allocator(NOW - 10, peak, peak, peak, 3), Allocator(NOW, peak, peak, peak, 3 + retries))
    return on_gpu(allocator=readings)


@pytest.mark.parametrize(
    ("part", "retries", "severity"),
    [(0.89, 0, None), (0.91, 0, "info"), (0.98, 0, "warn"), (0.5, 0, None), (0.85, 2, "warn")],
)
def test_severity_by_the_allocators_peak(part: float, retries: int, severity: str | None) -> None:
    found = memory_pressure.check(gpu_job(part, retries))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_what_nvml_calls_used_is_mostly_a_cache() -> None:
    full = device(memory_used_bytes=79 * GIB)
    verdict = judge(on_gpu(full, facts=facts(devices=("cuda",))), [memory_pressure])
    assert verdict.findings == ()
