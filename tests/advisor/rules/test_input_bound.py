"""Edges of input-bound, and what it must not take for waiting."""

from __future__ import annotations

import pytest

from tests.advisor.windows import facts, rank, rows, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import input_bound
from torchtop.seen import LoaderFacts
from torchtop.snapshot import Finding


@pytest.mark.parametrize(
    ("data", "severity"), [(0.0, None), (0.09, None), (0.12, "warn"), (0.39, "warn"), (0.42, "critical")]
)
def test_severity_by_the_share_that_is_waited(data: float, severity: str | None) -> None:
    found = input_bound.check(seen(rank(steps=rows(data=data))))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_gives_back_what_is_waited() -> None:
    found = input_bound.check(seen(rank(steps=rows(data=0.5), facts=facts(loader=LoaderFacts(workers=0)))))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.05, rel=0.01)
    assert "in the training thread itself" in found.summary


def test_a_wait_within_the_noise_is_none() -> None:
    """Two of sixty steps wait, all the others do not: the mean is above 10 %, its interval is not."""
    calm, waiting = rows(58, data=0.0), rows(2, 0.7, data=0.9)
    found = input_bound.check(seen(rank(steps=(*calm, *waiting))))
    assert found is None


def test_too_few_steps_abstain() -> None:
    verdict = judge(seen(rank(steps=rows(9, data=0.9))), [input_bound])
    assert verdict.findings == ()
    assert verdict.abstained[0].reason == "9 of 10 steps were seen"
