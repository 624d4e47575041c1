"""Edges of memory-growth, and memory that rises without growing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.advisor.windows import GIB, NOW, hosts, on_gpu, process, rank, rows, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import memory_growth
from torchtop.record import ProcessSample
from torchtop.seen import Allocator, Seen
from torchtop.snapshot import Finding

MIB = 2**20


def readings(level: Callable[[int], float], count: int = 22, **changes: Any) -> tuple[ProcessSample, ...]:
    """One a second; level: bytes of the n-th."""
    return tuple(process(NOW - count + 1 + at, rss_bytes=int(level(at)), **changes) for at in range(count))


def job(level: Callable[[int], float], count: int = 22, available: float = 50 * GIB, **changes: Any) -> Seen:
    """10 steps a second."""
    slow = rank(processes=readings(level, count, **changes))
    return seen(slow, host=hosts(memory_available_bytes=int(available)))


def rising(bytes_per_s: float) -> Callable[[int], float]:
    return lambda at: GIB + bytes_per_s * at


@pytest.mark.parametrize(
    ("bytes_per_s", "available", "severity"),
    [
        (0.0, 50 * GIB, None),
        (0.5e6, 50 * GIB, None),  # 10 MB in the window: caches
        (2e6, 200 * GIB, "info"),  # 8 hours until the machine's 64 GiB are full: too far for a look of 20 s
        (2e6, 15 * GIB, "warn"),  # 2 hours
        (12e6, 50 * GIB, "warn"),  # 1.2 MB a step
        (20e6, 50 * GIB, "critical"),  # 45 minutes
        (1.5e6, 1 * GIB, "critical"),
    ],
)
def test_severity_by_step_and_by_the_time_that_is_left(
    bytes_per_s: float, available: float, severity: str | None
) -> None:
    found = memory_growth.check(job(rising(bytes_per_s), available=available))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_says_how_fast_and_how_long() -> None:
    found = memory_growth.check(job(rising(20e6)))
    assert isinstance(found, Finding)
    assert "2 MB a step" in found.summary
    assert "it is full in 45 minutes" in found.summary


@pytest.mark.parametrize(
    "level",
    [
        lambda at: GIB + min(at, 8) * 50 * MIB,  # rises, then stays: warm-up
        lambda at: GIB + (500 * MIB if at > 10 else 0),  # one leap
        lambda at: GIB + 400 * MIB * (1 - 0.7**at),  # slows down
        lambda at: 3 * GIB - 40 * MIB * at,  # falls
        lambda at: GIB + random.Random(at).random() * 300 * MIB,  # what a step takes and gives back
    ],
)
def test_memory_that_rises_without_growing(level: Callable[[int], float]) -> None:
    assert memory_growth.check(job(level)) is None


def test_growth_under_the_noise_of_the_steps_is_found() -> None:
    def level(at: int) -> float:
        return GIB + 30e6 * at + random.Random(at).random() * 40 * MIB

    assert isinstance(memory_growth.check(job(level, count=60)), Finding)


def test_mapped_files_do_not_count() -> None:
    """Pages that are in the kernel's cache already come without a read from storage."""
    assert memory_growth.check(job(rising(20e6), private_bytes=GIB)) is None


def test_growth_beside_mapped_files_is_found() -> None:
    def both(at: int) -> ProcessSample:
        level = int(rising(20e6)(at))
        return process(NOW - 21 + at, rss_bytes=3 * level, private_bytes=level, read_bytes_per_s=25e6)

    found = memory_growth.check(seen(rank(processes=tuple(map(both, range(22)))), host=hosts()))
    assert isinstance(found, Finding)
    assert found.evidence[0].value == pytest.approx(2e6, rel=0.01)


def test_where_they_are_not_told_apart_mapped_files_may_be_the_reason() -> None:
    verdict = judge(job(rising(20e6), read_bytes_per_s=25e6), [memory_growth])
    assert "mapped files" in verdict.abstained[0].reason


def test_few_readings_abstain() -> None:
    verdict = judge(job(rising(20e6), count=9), [memory_growth])
    assert verdict.abstained[0].reason == "too few readings of the memory"


def test_on_a_gpu_the_allocator_counts() -> None:
    allocated = tuple(Allocator(NOW - 21 + at, GIB + at * 200 * MIB, 40 * GIB, 40 * GIB) for at in range(22))
    found = memory_growth.check(on_gpu(allocator=allocated, steps=rows()))
    assert isinstance(found, Finding)
    assert "of the GPU" in found.summary
