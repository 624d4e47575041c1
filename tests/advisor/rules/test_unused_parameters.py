"""Edges of unused-parameters, and whose gradients are missing for a good reason."""

from __future__ import annotations

import pytest

from tests.advisor.weights import bias, blocks, scan, weight
from tests.advisor.windows import rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import unused_parameters
from torchtop.seen import WeightRow
from torchtop.snapshot import Finding

SIZE = 512 * 512


def judged(*rows: WeightRow, **changes: object) -> Judgement:
    return unused_parameters.check(seen(rank(weights=scan(rows, **changes))))


def severity(answer: Judgement) -> str | None:
    return answer.severity if isinstance(answer, Finding) else None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, None), (0.009, None), (0.011, "info"), (0.24, "info"), (0.26, "warn"), (0.9, "warn")]
)
def test_severity_by_the_share(share: float, expected: str | None) -> None:
    head = weight("head", elements=round(1_000_000 * share), had_gradient=False)
    body = weight("body", elements=1_000_000 - head.elements)
    assert severity(judged(body, head)) == expected


@pytest.mark.parametrize(("looks", "expected"), [(10, "info"), (19, "info"), (20, "warn"), (1_000, "warn")])
def test_severity_by_how_often_it_was_looked(looks: int, expected: str) -> None:
    assert severity(judged(weight("body"), weight("head", had_gradient=False), boundaries=looks)) == expected


def test_few_looks_abstain() -> None:
    answer = judged(weight("body"), weight("head", had_gradient=False), boundaries=9)
    assert answer == Abstain("gradients were looked for at 9 of 10 steps")


def test_no_optimizer_that_steps_abstains() -> None:
    assert isinstance(judged(*blocks(had_gradient=None), optimized_elements=None), Abstain)


@pytest.mark.parametrize(("looks", "expected"), [(20, "info"), (99, "info"), (100, "warn")])
def test_experts_and_dropped_layers_take_turns(looks: int, expected: str) -> None:
    experts = [weight(f"moe.experts.{at}.up", had_gradient=at < 2) for at in range(8)]
    answer = judged(*experts, boundaries=looks)
    assert severity(answer) == expected
    assert isinstance(answer, Finding)
    assert "though modules like it do" in answer.summary
    assert answer.confidence == ("low" if looks < 100 else "high")


@pytest.mark.parametrize(
    "rows",
    [
        [weight("backbone", trainable=False, had_gradient=None, elements=10 * SIZE)],
        [weight("target", had_gradient=None, elements=10 * SIZE)],
        [weight("average", had_gradient=False, changed=True, elements=10 * SIZE), bias("average", elements=SIZE)],
        [weight("bert.pooler", had_gradient=False, elements=SIZE // 20), bias("bert.pooler")],
    ],
    ids=["frozen", "in no optimizer", "an average of the weights", "a pooler"],
)
def test_what_is_not_unused(rows: list[WeightRow]) -> None:
    assert judged(*blocks(), *rows) is None


def test_it_names_the_outermost_modules() -> None:
    unused = [weight(f"decoder.{at}.fc", had_gradient=False) for at in range(3)]
    unused += [bias(f"decoder.{at}.fc") for at in range(3)]
    unused += [weight("body.extra", had_gradient=False)]
    unused += [WeightRow("", "", "", SIZE // 2, 2 * SIZE, True, False, called=False)]
    answer = judged(*blocks(), weight("body.fc"), *unused)
    assert isinstance(answer, Finding)
    assert answer.where["layers"] == ["decoder", "body.extra", "no module that is called"]
    assert answer.recoverable_s is None
    numbers = {one.name: one.value for one in answer.evidence}
    assert numbers["elements without a gradient"] == 4.5 * SIZE + 3 * 512
    assert numbers["optimizer steps looked at"] == 160


def test_a_parameter_of_the_root_has_a_name_too() -> None:
    answer = judged(weight("body"), weight("", name="prompt", type="ViT", had_gradient=False))
    assert isinstance(answer, Finding)
    assert answer.where["layer"] == "prompt"


def test_a_job_that_does_not_train_is_not_asked() -> None:
    rows = [weight("head", had_gradient=False)]
    verdict = judge(seen(rank(weights=scan(rows)), mode="inference"), [unused_parameters])
    assert verdict.abstained[0].reason == "the job does not train"
