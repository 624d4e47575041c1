"""Edges of misleading-utilization, and what published readings say."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import device, on_gpu
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import misleading_utilization
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("util", "power_w", "memory_util", "severity"),
    [
        (0.97, 560.0, 0.4, None),
        (0.97, 281.0, 0.4, None),
        (0.97, 279.0, 0.4, "warn"),
        (0.97, 279.0, 0.5, "info"),
        (0.97, 279.0, None, "warn"),
        (0.79, 150.0, 0.1, None),
        (0.81, 150.0, 0.1, "warn"),
    ],
)
def test_severity_by_utilization_and_power(
    util: float, power_w: float, memory_util: float | None, severity: str | None
) -> None:
    found = misleading_utilization.check(on_gpu(device(util=util, power_w=power_w, memory_util=memory_util)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


@pytest.mark.parametrize(
    ("reading", "severity"),
    [
        ("h100 that waits in a collective", "warn"),
        ("h100 of which one kernel runs", "warn"),
        ("v100 of a model in pieces", "warn"),
        ("h100 in a large training step", None),
        ("a100 in a healthy pretraining", None),
        ("h100 with a context and nothing to run", None),
        ("2080 ti that is fed too slowly", None),
    ],
)
def test_published_readings(reading: str, severity: str | None) -> None:
    found = misleading_utilization.check(published.job(published.device(reading)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_mig_instance_has_no_power() -> None:
    found = misleading_utilization.check(
        on_gpu(device(mig_index=1, power_w=None, missing={"power_w": "Not Supported"}))
    )
    assert found == Abstain("Not Supported")
