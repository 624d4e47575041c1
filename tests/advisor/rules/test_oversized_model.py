"""Edges of oversized-model."""

from __future__ import annotations

import pytest

from tests.advisor.weights import blocks, scan, weight
from tests.advisor.windows import rank, seen
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import oversized_model
from torchtop.seen import WeightRow
from torchtop.snapshot import Finding


def judged(*rows: WeightRow, **changes: object) -> Judgement:
    return oversized_model.check(seen(rank(weights=scan(rows, **changes))))


@pytest.mark.parametrize(("near", "found"), [(0.0, False), (0.48, False), (0.52, True), (0.9, True)])
def test_by_the_share_of_channels(near: float, found: bool) -> None:
    assert isinstance(judged(*blocks(near=near)), Finding) is found


@pytest.mark.parametrize(("layers", "found"), [(4, False), (5, True), (8, True)])
def test_by_how_many_layers(layers: int, found: bool) -> None:
    assert isinstance(judged(*blocks(layers, near=0.7), *blocks(8)[layers:]), Finding) is found


def test_many_small_layers_are_not_the_model() -> None:
    small = blocks(7, near=0.7, elements=1_000)
    assert judged(*small, weight("large"), weight("larger", elements=10**7)) is None


def test_two_layers_are_no_model() -> None:
    assert judged(*blocks(2, near=0.9)) is None


def test_the_numbers() -> None:
    found = judged(*blocks(6, near=0.75), *blocks(8)[6:])
    assert isinstance(found, Finding)
    assert found.severity == "info"
    assert found.share == pytest.approx(0.75 * 6 / 8)
    assert found.recoverable_s == pytest.approx(6 * 0.11 * 0.1 * 0.75)
    assert "in 6 of 8 layers" in found.summary


def test_without_times_it_says_none() -> None:
    answer = oversized_model.check(seen(rank(weights=scan(blocks(near=0.75)), layers=())))
    assert isinstance(answer, Finding)
    assert answer.recoverable_s is None


def test_nothing_that_could_be_read_abstains() -> None:
    rows = blocks(channels=None, channels_looked=None, elements_looked=None, norm=None)
    assert isinstance(judged(*rows, left_out={"of type DTensor": 8}), Abstain)
