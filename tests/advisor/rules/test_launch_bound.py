"""Edges of launch-bound, and idle GPUs of which kernels are not the cause."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import device, phases
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import launch_bound
from torchtop.snapshot import Finding, Layer


def _layers(calls: int) -> tuple[Layer, ...]:
    return tuple(published.linear(f"layers.{at}", 64, 64, tokens=32) for at in range(calls))


def _judge(util: float = 0.3, calls: int = 200, step_s: float = 0.04, **parts: float) -> Judgement:
    """A step of 40 ms that calls 200 layers: 200 us each, of which 60 us are the GPU's, in three kernels at the least."""
    armed = phases(12, step_s, **parts)
    window = published.job(device(util=util), layers=_layers(calls), steps=published.steps(step_s), phases=armed)
    return launch_bound.check(window)


@pytest.mark.parametrize(
    ("util", "calls", "step_s", "severity"),
    [
        (0.30, 200, 0.04, "warn"),
        (0.49, 300, 0.04, "warn"),
        (0.51, 300, 0.04, None),  # busy for more than half of the time
        (0.45, 200, 0.04, None),  # 30 us a kernel
        (0.30, 70, 0.04, None),  # 570 us of the host for each layer: it does something else
        (0.05, 8, 0.1, None),  # eight layers in 100 ms
    ],
)
def test_edges(util: float, calls: int, step_s: float, severity: str | None) -> None:
    found = _judge(util, calls, step_s)
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_another_stall_explains_the_idle_gpu_better() -> None:
    assert isinstance(_judge(), Finding)
    assert _judge(data=0.12, forward=0.25) is None


def test_it_gives_back_the_idle_time() -> None:
    found = _judge()
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.7 * 0.04, rel=0.01)
    assert found.evidence[3].value == pytest.approx(0.3 * 0.04 / 600, rel=0.01)


def test_two_processes_of_resnet18_are_not_launch_bound_by_half_a_gpu() -> None:
    """pytorch issue 14531: resnet18 on one image, 5 ms and 50 % utilization: 41 us a kernel at 61 layers."""
    window = published.job(device(util=0.5), layers=_layers(61), steps=published.steps(0.005), training=False)
    assert launch_bound.check(window) is None
