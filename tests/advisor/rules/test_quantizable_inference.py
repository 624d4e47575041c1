"""Edges of quantizable-inference: only kinds and sizes of layers that int8 was measured to help."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor.windows import device, facts, layer, rank, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import quantizable_inference
from torchtop.seen import Seen
from torchtop.snapshot import Finding, Layer

WIDE: dict[str, Any] = {"parameters": 1024 * 1025, "parameter_bytes": 4 * 1024 * 1025}
IMAGE = (8, 64, 28, 28)


def convolution(share: float, inputs: int = 64, **changes: Any) -> Layer:
    """3 x 3, 64 output channels."""
    weights = 64 * inputs * 9
    flops = 2.0 * 9 * inputs * 8 * 64 * 28 * 28
    fields: dict[str, Any] = {
        "parameters": weights,
        "parameter_bytes": 4 * weights,
        "flops": flops,
        "output_shape": IMAGE,
    }
    return layer("features.0", share, "Conv2d", **{**fields, **changes})


def serving(*layers: Layer, **changes: Any) -> Seen:
    known = {"training": False, "facts": facts(optimizers=(), loader=None), "layers": layers}
    return seen(rank(**{**known, **changes}), mode="inference")


def judged(*layers: Layer, **changes: Any) -> Judgement:
    return quantizable_inference.check(serving(*layers, **changes))


@pytest.mark.parametrize(("share", "found"), [(0.2, False), (0.49, False), (0.51, True), (0.9, True)])
@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_by_the_share_of_the_step(kind: str, share: float, found: bool) -> None:
    one = convolution(share) if kind == "Conv2d" else layer("fc", share, **WIDE)
    answer = judged(one)
    assert isinstance(answer, Finding) is found
    if isinstance(answer, Finding):
        assert answer.severity == "info"
        assert answer.recoverable_s == pytest.approx(share * 0.1 * (0.79 if kind == "Conv2d" else 0.36), rel=0.02)


def test_several_layers_add_up() -> None:
    answer = judged(*(layer(f"blocks.{at}.fc", 0.11, **WIDE) for at in range(8)))
    assert isinstance(answer, Finding)
    assert answer.share == pytest.approx(0.88)
    assert answer.where["layers_left_out"] == 0


@pytest.mark.parametrize(
    "one",
    [
        layer("narrow", 0.9, parameters=256 * 256, parameter_bytes=4 * 256 * 256),
        layer("bfloat16", 0.9, parameters=1024**2, parameter_bytes=2 * 1024**2, dtype="bfloat16"),
        layer("int8 already", 0.9, parameters=0, parameter_bytes=0),
        layer("autocast", 0.9, dtype="bfloat16", **WIDE),
        layer("attention", 0.9, "MultiheadAttention", **WIDE),
        convolution(0.9, inputs=1),
        convolution(0.9, flops=None),
        convolution(0.9, output_shape=None),
        convolution(0.9, calls=0.0),
    ],
    ids=lambda one: f"{one.type} {one.name}",
)
def test_what_does_not_count(one: Layer) -> None:
    assert judged(one) is None


def test_a_job_that_trains_or_has_trained_does_not_apply() -> None:
    fc = layer("fc", 0.9, **WIDE)
    assert judged(fc, facts=facts()) is None
    verdict = judge(seen(rank(layers=(fc,))), [quantizable_inference])
    assert verdict.abstained[0].reason == "the job trains"


def test_on_a_gpu_it_abstains() -> None:
    on_cuda = rank(training=False, facts=facts(optimizers=(), devices=("cuda",)), layers=(layer("fc", 0.9, **WIDE),))
    verdict = judge(seen(on_cuda, mode="inference", devices=(device(),)), [quantizable_inference])
    assert verdict.abstained[0].reason == "the job computes on a GPU"


def test_a_compiled_model_abstains() -> None:
    verdict = judge(serving(layer("fc", 0.9, **WIDE), compiled=True), [quantizable_inference])
    assert verdict.findings == ()
