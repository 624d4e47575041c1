"""Edges of power-capped, and what published readings say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import NOW, device, gpu, on_gpu, rows
from torchtop.advisor.rules import power_capped
from torchtop.snapshot import Finding

CAPPED: dict[str, Any] = {"throttle_reasons": ("sw-power-cap",), "power_w": 690.0, "sm_clock_mhz": 1400}


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, "info"),  # an H100 at its limit is as it should be
        ({"sm_clock_mhz": 1700}, None),
        ({"power_w": 620.0}, None),
        ({"power_w": 550.0}, "warn"),  # capped at 79 % of the limit
        ({"throttle_reasons": ()}, None),
        ({"power_w": 500.0, "power_limit_w": 500.0}, "warn"),
        ({"power_w": 600.0, "power_limit_w": 600.0}, "info"),
        ({"power_w": 500.0, "power_limit_w": 500.0, "name": "NVIDIA GeForce RTX 4090"}, "info"),
        ({"throttle_reasons": ("hw-slowdown", "hw-power-brake"), "power_w": 300.0}, "warn"),
        ({"util": 0.2}, None),
    ],
)
def test_severity(changes: dict[str, Any], severity: str | None) -> None:
    found = power_capped.check(on_gpu(device(**{**CAPPED, **changes})))
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("reading", "severity"),
    [
        ("a100 capped far below its limit", "warn"),
        ("h100 pcie in a server not made for it", "info"),
        ("a100 at its full clock", None),
        ("h100 pcie without enough air", None),
    ],
)
def test_published_readings(reading: str, severity: str | None) -> None:
    found = power_capped.check(published.job(published.device(reading)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_usual_cap_gives_nothing_back() -> None:
    found = power_capped.check(on_gpu(device(**CAPPED)))
    assert isinstance(found, Finding)
    assert found.recoverable_s is None


@pytest.mark.parametrize(("power_w", "severity"), [(520.0, None), (350.0, "warn")])
def test_at_the_limit_for_some_of_each_second(power_w: float, severity: str | None) -> None:
    """The reason is of a moment, power a mean: capped in three readings of four, at its limit it draws 525 W or more."""
    reasons = [() if at % 4 == 0 else ("sw-power-cap",) for at in range(40)]
    readings = tuple(
        gpu(NOW - 39 + at, **{**CAPPED, "power_w": power_w, "throttle_reasons": one}) for at, one in enumerate(reasons)
    )
    found = power_capped.check(on_gpu(published.of(readings), steps=rows(380)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_cap_of_some_moments() -> None:
    readings = tuple(gpu(NOW - 19 + at, **(CAPPED if at % 3 == 0 else {})) for at in range(20))
    assert power_capped.check(on_gpu(published.of(readings))) is None
