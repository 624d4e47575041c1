"""Edges of prunable-layers, and what only looks like it."""

from __future__ import annotations

import pytest

from tests.advisor.weights import blocks, scan, weight
from tests.advisor.windows import rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import oversized_model, prunable_layers
from torchtop.seen import WeightRow
from torchtop.snapshot import Finding


def judged(*rows: WeightRow, **changes: object) -> Judgement:
    return prunable_layers.check(seen(rank(weights=scan(rows, **changes))))


@pytest.mark.parametrize(("near", "found"), [(0.0, False), (0.09, False), (0.11, True), (0.5, True)])
def test_by_the_share_of_channels(near: float, found: bool) -> None:
    assert isinstance(judged(*blocks(near=near)), Finding) is found


@pytest.mark.parametrize(("singly", "found"), [(0.008, False), (0.45, False), (0.55, True), (0.99, True)])
def test_by_the_share_of_single_weights(singly: float, found: bool) -> None:
    answer = judged(*blocks(singly=singly))
    assert isinstance(answer, Finding) is found
    if isinstance(answer, Finding):
        assert answer.remedies == ("prune-weights",)
        assert answer.recoverable_s is None


@pytest.mark.parametrize(("layers", "found"), [(1, False), (2, True)])
def test_little_of_the_model_is_not_worth_it(layers: int, found: bool) -> None:
    """Of 8 layers one with 30 % is 3.75 % of all weights, two are 7.5 %."""
    assert isinstance(judged(*blocks(layers, near=0.3), *blocks(8)[layers:]), Finding) is found


def test_the_time_of_the_channels_is_what_comes_back() -> None:
    answer = judged(*blocks(2, near=0.5), *blocks(8)[2:])
    assert isinstance(answer, Finding)
    assert (answer.severity, answer.remedies) == ("info", ("prune-channels",))
    assert answer.recoverable_s == pytest.approx(2 * 0.11 * 0.1 * 0.5)
    assert answer.share == pytest.approx(2 / 8 / 2)
    assert answer.where["layers"] == ["blocks.0.fc", "blocks.1.fc"]
    assert "50% of the output channels of blocks.0.fc" in answer.summary


def test_of_channels_that_were_not_all_read_the_low_end_counts() -> None:
    """7 of 64 are 10.9 %, and may be 5.4 %."""
    some = {"channels": 4096, "channels_looked": 64, "elements": 4096 * 512}
    assert judged(*blocks(near=7 / 64, **some)) is None
    found = judged(*blocks(near=20 / 64, **some))
    assert isinstance(found, Finding)
    assert found.confidence == "medium"


@pytest.mark.parametrize(
    "row",
    [
        weight("lora_b", 1.0, norm=0.0, elements=10**7),
        weight("classes", 0.5, channels=10, channels_looked=10, elements=10**7),
        weight(
            "words", type="Embedding", channels=None, channels_looked=None, elements=10**7, elements_near_zero=60_000
        ),
        weight("diverged", channels_near_zero=None, norm=None, elements_looked=None, elements=10**7),
    ],
    ids=lambda row: row.module,
)
def test_what_is_no_layer_to_prune(row: WeightRow) -> None:
    assert judged(*blocks(), row) is None


def test_nothing_that_could_be_read_abstains() -> None:
    rows = blocks(channels=None, channels_looked=None, elements_looked=None, norm=None)
    answer = judged(*rows, left_out={"on cuda: only weights in main memory are read yet": 8})
    assert isinstance(answer, Abstain)
    assert answer.reason.startswith("8 weights could not be read: on cuda")
    assert judged() is None


def test_without_a_scan_it_abstains_and_says_why() -> None:
    verdict = judge(seen(rank(weights_reason="the model is compiled in place")), [prunable_layers])
    assert verdict.abstained[0].reason == "the model is compiled in place"


def test_a_model_that_is_thin_all_over_is_told_once() -> None:
    window = seen(rank(weights=scan(blocks(near=0.6))))
    verdict = judge(window, [prunable_layers, oversized_model])
    assert [finding.code for finding in verdict.findings] == ["oversized-model"]
    assert [(one.code, one.reason) for one in verdict.abstained] == [
        ("prunable-layers", "explained by oversized-model")
    ]
