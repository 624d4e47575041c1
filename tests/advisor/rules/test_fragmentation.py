"""Edges of fragmentation, and what published out-of-memory messages say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import GIB, NOW, device
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import fragmentation
from torchtop.seen import Allocator
from torchtop.snapshot import Finding


def _judge(reserved: float, peak: float, total: float = 80.0, retries: tuple[int, int] = (0, 0)) -> Judgement:
    """reserved, peak, total: GiB. Between two steps a third of the peak is allocated."""
    return fragmentation.check(_job(_readings(reserved, peak, retries), total))


def _readings(reserved: float, peak: float, retries: tuple[int, int] = (0, 0)) -> tuple[Allocator, ...]:
    return tuple(
        Allocator(
            t=NOW - 19 + at,
            allocated_bytes=int(peak * GIB / 3),
            reserved_bytes=int(reserved * GIB),
            peak_bytes=int(peak * GIB),
            retries=retries[0] if at < 10 else retries[1],
        )
        for at in range(20)
    )


def _job(readings: tuple[Allocator, ...], total: float = 80.0, **changes: Any) -> Any:
    return published.job(device(memory_total_bytes=int(total * GIB)), allocator=readings, **changes)


@pytest.mark.parametrize(
    ("reserved", "peak", "severity"),
    [
        (60.0, 60.0, None),
        (60.0, 49.0, None),
        (60.0, 47.0, "info"),
        (60.0, 37.0, "info"),
        (60.0, 35.0, "warn"),
        (20.0, 5.0, "info"),  # a quarter of the GPU
        (0.1, 0.05, None),  # 54 MB
    ],
)
def test_severity_by_the_gap(reserved: float, peak: float, severity: str | None) -> None:
    found = _judge(reserved, peak)
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("allocated", "reserved", "total", "severity"),
    [
        (56.70, 56.70 + 14.15, 79.25, None),  # wbfwonderful/Vad-R1, issue 11: a gap of 0.1997
        (12.87, 12.87 + 0.89, 39.50, None),  # TianheWu/CoSeR, issue 10: 912 MiB of 14 GiB
        (21.91, 22.09, 23.70, None),  # tatsu-lab/stanford_alpaca, issue 76
        (17.20, 19.15, 24.00, None),  # YingqianWang/iPASSR, issue 9
    ],
)
def test_published_messages(allocated: float, reserved: float, total: float, severity: str | None) -> None:
    found = _judge(reserved, allocated, total)
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_retry_in_the_window_is_no_small_matter() -> None:
    found = _judge(70.8, 56.6, 79.25, retries=(3, 5))
    assert isinstance(found, Finding)
    assert (found.severity, found.confidence) == ("warn", "high")
    assert "2 times" in found.summary


def test_an_old_retry_is_over() -> None:
    found = _judge(60.0, 47.0, retries=(3, 3))
    assert isinstance(found, Finding)
    assert found.severity == "info"


def test_what_is_missing() -> None:
    assert judge(_job(()), [fragmentation]).abstained[0].reason == "torch's CUDA allocator was not read"
    assert judge(_job(_readings(60.0, 10.0)[:2]), [fragmentation]).abstained[0].reason.startswith("2 of 3")
