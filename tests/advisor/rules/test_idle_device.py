"""Edges of idle-device, and what published readings say."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import device, on_gpu, rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import idle_device
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("util", "severity"), [(0.97, None), (0.80, None), (0.71, None), (0.69, "info"), (0.51, "info"), (0.49, "warn")]
)
def test_severity_by_utilization(util: float, severity: str | None) -> None:
    found = idle_device.check(on_gpu(device(util=util)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("reading", "severity"),
    [
        ("2080 ti that is fed too slowly", "warn"),
        ("4090 that is fed far too slowly", "warn"),
        ("h100 in a large training step", None),
        ("a100 in a healthy pretraining", None),
        ("v100 of a model in pieces", None),
    ],
)
def test_published_readings(reading: str, severity: str | None) -> None:
    found = idle_device.check(published.job(published.device(reading)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_gives_back_the_idle_time() -> None:
    found = idle_device.check(published.job(published.device("2080 ti that is fed too slowly")))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.062, rel=0.01)
    assert found.where["device"] == 0


def test_a_pause_of_the_gpu_within_the_noise_is_none() -> None:
    """Busy but for four seconds of one validation: the mean is 0.35 idle, its interval begins below 0.30."""
    readings = (*device(16, util=0.81).readings, *device(4, util=0.0).readings)
    found = idle_device.check(on_gpu(published.of(readings)))
    assert found is None


def test_too_few_readings_abstain() -> None:
    assert idle_device.check(on_gpu(device(9, util=0.0))) == Abstain("9 of 10 readings of GPU 0")


def test_a_server_that_waits_for_requests_is_not_judged() -> None:
    window = seen(rank(facts=published.on_cuda()), devices=(device(util=0.0),), devices_reason=None, mode="inference")
    assert judge(window, [idle_device]).findings == ()
