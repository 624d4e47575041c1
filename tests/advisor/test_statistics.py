"""Intervals that hold what they promise, and shares by batches."""

from __future__ import annotations

import random

import pytest

from torchtop.advisor.statistics import interval, mean_of_known, median, percentile, proportion, share


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    """Of 400 series of neighbours that resemble each other (AR(1), 0.5), 95 % should; 88 % is what batches of 20 give."""
    lot = random.Random(7)
    held = 0
    for _ in range(400):
        value, values = 0.0, []
        for _ in range(200):
            value = 0.5 * value + lot.gauss(0, 1)
            values.append(value)
        found = interval(values)
        assert found is not None
        held += found.low <= 0.0 <= found.high
    assert 0.88 <= held / 400 <= 0.99


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_values_have_no_interval(count: int) -> None:
    assert interval([1.0] * count) is None
    assert share([0.1] * count, [1.0] * count) is None


def test_a_long_step_counts_for_as_much_as_it_lasts() -> None:
    found = share([0.0] * 9 + [9.0], [1.0] * 9 + [11.0])
    assert found is not None
    assert found.mean == pytest.approx(0.45)
    assert found.low == 0.0


def test_a_share_of_nothing_is_none() -> None:
    assert share([0.0] * 5, [0.0] * 5) is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert interval([2.0] * 50) == (2.0, 2.0, 2.0)


def test_the_middle_and_the_rest() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert percentile(range(100), 0.95) == 95


def test_what_was_not_measured_is_not_zero() -> None:
    assert mean_of_known([1.0, None, 0.0]) == 0.5
    assert mean_of_known([None]) is None


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 10, 0.0, 0.278), (5, 10, 0.237, 0.763), (10, 10, 0.722, 1.0)]
)
def test_shares_of_few_are_uncertain(hits: int, count: int, low: float, high: float) -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion (1998), method 3."""
    found = proportion(hits, count)
    assert (found.mean, round(found.low, 3), round(found.high, 3)) == (hits / count, low, high)
