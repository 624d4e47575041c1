"""Share of time of what comes again and again."""

from __future__ import annotations

import pytest

from torchtop.advisor.recurring import share_of_time


@pytest.mark.parametrize("count", [2, 3, 4, 20])
def test_what_comes_every_two_seconds(count: int) -> None:
    ends = [2.0 * (at + 1) for at in range(count)]
    found = share_of_time(ends, [0.5] * count, 0.0, ends[-1] + 1)
    assert found is not None
    assert found == pytest.approx((0.25, 0.25, 0.25))


def test_one_is_no_rate() -> None:
    assert share_of_time([5.0], [1.0], 0.0, 10.0) is None


def test_what_has_ended_takes_no_time_since() -> None:
    found = share_of_time([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], 0.0, 23.0)
    assert found is not None
    assert found.mean == pytest.approx(1.0 / 22)
    assert found.low < 0.02


def test_two_of_different_length_are_as_far_apart_as_their_extremes() -> None:
    found = share_of_time([4.0, 8.0], [1.0, 2.0], 0.0, 9.0)
    assert found == pytest.approx((0.5, 0.25, 0.5))


def test_ends_at_one_moment_are_no_cycle() -> None:
    assert share_of_time([4.0, 4.0], [1.0, 1.0], 0.0, 9.0) is None


def test_nested_ones_are_never_more_than_all() -> None:
    found = share_of_time([1.0, 1.1, 1.2, 1.3], [1.0, 1.0, 1.0, 1.0], 0.0, 1.4)
    assert found is not None
    assert found.mean <= 1.0 and found.high <= 1.0
