"""Edges of ecc-errors."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import NOW, device, gpu, on_gpu
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import ecc_errors
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("before", "after", "severity"), [(0, 0, None), (1, 1, "warn"), (0, 1, "critical"), (5, 0, None)]
)
def test_severity(before: int, after: int, severity: str | None) -> None:
    readings = tuple(gpu(NOW - 19 + at, ecc_uncorrected=before if at < 10 else after) for at in range(20))
    found = ecc_errors.check(on_gpu(published.of(readings)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_card_without_ecc() -> None:
    window = on_gpu(device(ecc_uncorrected=None, missing={"ecc_uncorrected": "Not Supported"}))
    assert ecc_errors.check(window) == Abstain("Not Supported")


def test_a_published_card() -> None:
    """NVIDIA/nccl issue 1550: `Volatile Uncorr. ECC` is 0 on all eight H100."""
    assert ecc_errors.check(on_gpu(published.device("h100 of which one kernel runs", ecc_uncorrected=0))) is None
