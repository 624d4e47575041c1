"""Edges of pcie-degraded: a link that sleeps is not a slow one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import NOW, device, gpu, on_gpu, phases
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import pcie_degraded
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, None),
        ({"pcie_generation": 4}, "info"),
        ({"pcie_width": 8}, "info"),
        ({"pcie_width": 4}, "warn"),
        ({"pcie_generation": 1}, "warn"),
        ({"pcie_generation": 1, "util": 0.1}, None),
        ({"pcie_width": 8, "pcie_width_max": 8}, None),
    ],
)
def test_severity(changes: dict[str, Any], severity: str | None) -> None:
    found = pcie_degraded.check(on_gpu(device(**changes)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("reading", "severity"),
    [
        ("1080 that rests on a slow link", None),
        ("1080 at work on its full link", None),
        ("3090 on a degraded link", "info"),
    ],
)
def test_published_readings(reading: str, severity: str | None) -> None:
    found = pcie_degraded.check(published.job(published.device(reading)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_link_that_wakes_up_is_well() -> None:
    readings = tuple(gpu(NOW - 19 + at, pcie_generation=1 if at < 15 else 5) for at in range(20))
    assert pcie_degraded.check(on_gpu(published.of(readings))) is None


def test_where_copies_take_time_it_is_felt() -> None:
    found = pcie_degraded.check(on_gpu(device(pcie_width=8), phases=phases(transfer=0.08)))
    assert isinstance(found, Finding)
    assert found.severity == "warn"
    assert found.recoverable_s == pytest.approx(0.004, rel=0.01)


def test_what_is_missing() -> None:
    window = on_gpu(device(pcie_width=None, missing={"pcie_generation": "Not Supported"}))
    assert judge(window, [pcie_degraded]).abstained[0].reason == "Not Supported"
