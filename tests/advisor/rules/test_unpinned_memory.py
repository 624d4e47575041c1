"""Edges of unpinned-memory: the setting alone is no finding."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import device, facts, on_gpu, phases
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import transfer_bound, unpinned_memory
from torchtop.seen import Facts, LoaderFacts, Seen
from torchtop.snapshot import Finding


def _job(transfer: float, pin_memory: bool) -> Seen:
    return on_gpu(phases=phases(transfer=transfer), facts=_facts(pin_memory))


def _facts(pin_memory: bool) -> Facts:
    return facts(devices=("cuda",), loader=LoaderFacts(workers=2, pin_memory=pin_memory, dataset="Images"))


@pytest.mark.parametrize(
    ("transfer", "pin_memory", "severity"),
    [(0.0, False, None), (0.04, False, None), (0.06, False, "warn"), (0.3, False, "warn"), (0.3, True, None)],
)
def test_severity(transfer: float, pin_memory: bool, severity: str | None) -> None:
    found = unpinned_memory.check(_job(transfer, pin_memory))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_pinning_gives_back_part_of_the_copy() -> None:
    """From 2.3 to 5.7 GB/s, as the NVIDIA developer blog measured: 60 % of 8 ms."""
    found = unpinned_memory.check(_job(0.08, pin_memory=False))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.008 * (1 - 2.3 / 5.7), rel=0.01)
    assert found.where["dataset"] == "Images"


def test_where_copies_dominate_they_come_first() -> None:
    verdict = judge(_job(0.3, pin_memory=False), [unpinned_memory, transfer_bound])
    assert verdict.findings[0].code == "transfer-bound"
    assert "not pinned" in verdict.findings[0].summary


def test_without_the_devices_time_it_is_not_judged() -> None:
    verdict = judge(published.job(device(), facts=_facts(pin_memory=False)), [unpinned_memory])
    assert (verdict.findings, len(verdict.abstained)) == ((), 1)
