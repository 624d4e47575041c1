"""Edges of transfer-bound."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import device, on_gpu, phases
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import transfer_bound
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("transfer", "severity"), [(0.0, None), (0.09, None), (0.11, "warn"), (0.19, "warn"), (0.21, "critical")]
)
def test_severity_by_the_share_of_copies(transfer: float, severity: str | None) -> None:
    found = transfer_bound.check(on_gpu(phases=phases(transfer=transfer)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_job_that_copies_nothing() -> None:
    assert transfer_bound.check(on_gpu(phases=phases())) is None


def test_the_hosts_clock_says_nothing_of_copies() -> None:
    window = published.job(device(), phases=phases(transfer=0.5))
    verdict = judge(window, [transfer_bound])
    assert verdict.findings == ()
    assert "device's time" in verdict.abstained[0].reason
