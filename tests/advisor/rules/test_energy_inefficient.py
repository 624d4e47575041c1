"""Edges of energy-inefficient."""

from __future__ import annotations

import pytest

from tests.advisor import published
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import energy_inefficient
from torchtop.snapshot import Finding


def _gpt2(step_s: float, power_w: float = 320.0) -> Judgement:
    window = published.job(
        published.device("a100 at its full clock", power_w=power_w),
        steps=published.steps(step_s),
        layers=published.gpt2("bfloat16"),
    )
    return energy_inefficient.check(window)


@pytest.mark.parametrize(
    ("step_s", "power_w", "is_found"),
    [(published.GPT2_STEP_S["flash"], 320.0, False), (0.3, 320.0, False), (0.52, 320.0, True), (0.52, 200.0, False)],
)
def test_edges(step_s: float, power_w: float, is_found: bool) -> None:
    """12.1e12 operations at 312e12 a second and 400 W are 15.6 J; 0.5 s at 320 W are 160 J."""
    found = _gpt2(step_s, power_w)
    assert isinstance(found, Finding) == is_found
    assert not isinstance(found, Finding) or found.severity == "info"


def test_it_says_joules_of_a_sample() -> None:
    found = _gpt2(1.0)
    assert isinstance(found, Finding)
    assert found.evidence[-1].value == pytest.approx(10.0, rel=0.01)
    assert found.evidence[-1].unit == "J"


def test_without_a_peak_it_abstains() -> None:
    window = published.job(published.device("2080 ti that is fed too slowly"), layers=published.gpt2())
    assert isinstance(energy_inefficient.check(window), Abstain)
