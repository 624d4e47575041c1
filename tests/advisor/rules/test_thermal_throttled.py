"""Edges of thermal-throttled, and what published readings say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import GIB, NOW, PID, device, gpu, on_gpu
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import thermal_throttled
from torchtop.record import GpuProcess
from torchtop.seen import Seen
from torchtop.snapshot import Finding

HOT: dict[str, Any] = {"throttle_reasons": ("sw-thermal-slowdown",), "temperature_c": 87.0}


def _hot(of_20: int, **changes: Any) -> Seen:
    """So many of 20 readings are hot, spread evenly; the others are those of a healthy H100."""
    hot = {at * 20 // of_20 for at in range(of_20)} if of_20 else set()
    readings = tuple(gpu(NOW - 19 + at, **({**HOT, **changes} if at in hot else {})) for at in range(20))
    return on_gpu(published.of(readings))


@pytest.mark.parametrize(
    ("of_20", "clock", "severity"),
    [
        (0, 1500, None),
        (2, 1500, None),
        (10, 1500, "warn"),
        (20, 1900, None),
        (20, 1870, "warn"),
        (20, 1690, "warn"),
        (20, 1680, "critical"),
    ],
)
def test_severity_by_share_and_clock(of_20: int, clock: int, severity: str | None) -> None:
    found = thermal_throttled.check(_hot(of_20, sm_clock_mhz=clock))
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("reading", "severity"),
    [
        ("h100 pcie without enough air", "critical"),
        ("h100 pcie in a server not made for it", "critical"),
        ("a100 at its full clock", None),
        ("a100 capped far below its limit", None),
    ],
)
def test_published_readings(reading: str, severity: str | None) -> None:
    found = thermal_throttled.check(published.job(published.device(reading)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_quarter_of_the_clock_is_three_quarters_of_the_step() -> None:
    found = thermal_throttled.check(published.job(published.device("h100 pcie without enough air")))
    assert isinstance(found, Finding)
    assert found.share == pytest.approx(1 - 510 / 1755)
    assert "88 C" in found.summary


@pytest.mark.parametrize(
    ("temperature_c", "clock", "severity"), [(86.0, 1600, "warn"), (84.0, 1600, None), (90.0, 1900, None)]
)
def test_a_driver_that_gives_no_reasons(temperature_c: float, clock: int, severity: str | None) -> None:
    found = thermal_throttled.check(
        on_gpu(device(throttle_reasons=None, temperature_c=temperature_c, sm_clock_mhz=clock))
    )
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("reasons", "temperature_c", "is_found"),
    [
        (("hw-slowdown",), 88.0, True),
        (("hw-slowdown",), 60.0, False),
        (("hw-slowdown", "hw-power-brake"), 88.0, False),
        (("sw-power-cap",), 88.0, False),
    ],
)
def test_a_slowdown_that_is_not_named(reasons: tuple[str, ...], temperature_c: float, is_found: bool) -> None:
    window = on_gpu(device(throttle_reasons=reasons, temperature_c=temperature_c, sm_clock_mhz=1000))
    assert isinstance(thermal_throttled.check(window), Finding) == is_found


def test_an_idle_gpu_with_a_low_clock() -> None:
    assert thermal_throttled.check(on_gpu(device(util=0.0, sm_clock_mhz=345))) is None


def test_the_hottest_of_several_is_named() -> None:
    window = on_gpu(
        device(index=0, processes=(GpuProcess(PID, GIB),)),
        device(index=1, processes=(GpuProcess(PID, GIB),), sm_clock_mhz=1200, **HOT),
    )
    found = thermal_throttled.check(window)
    assert isinstance(found, Finding)
    assert found.where["device"] == 1


def test_what_is_missing() -> None:
    window = on_gpu(device(throttle_reasons=None, temperature_c=None, missing={"temperature_c": "Not Supported"}))
    assert judge(window, [thermal_throttled]).abstained[0].reason == "Not Supported"
