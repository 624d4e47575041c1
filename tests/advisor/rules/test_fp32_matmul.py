"""fp32-matmul against what TF32 was measured to give."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import device
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import fp32_matmul
from torchtop.snapshot import Finding

STEP_S = published.GPT2_STEP_S


def _gpt2(step_s: float, dtype: str = "float32", reading: str = "a100 at its full clock", **facts: Any) -> Judgement:
    window = published.job(
        published.device(reading),
        steps=published.steps(step_s),
        layers=published.gpt2(dtype),
        facts=published.on_cuda(**facts),
    )
    return fp32_matmul.check(window)


def test_gpt2_in_float32_on_an_a100() -> None:
    found = _gpt2(STEP_S["float32"])
    assert isinstance(found, Finding)
    assert found.severity == "warn"
    assert found.where["layer"] == "lm_head"
    # What TF32 was measured to take off is more than what is said: that is a lower bound.
    assert found.recoverable_s is not None
    assert 0.3 < found.recoverable_s < STEP_S["float32"] - STEP_S["tf32"]


@pytest.mark.parametrize(
    ("dtype", "facts"),
    [
        ("float32", {"tf32_matmul": True}),
        ("float32", {"matmul_precision": "high"}),
        ("bfloat16", {"autocast": "bfloat16"}),
    ],
)
def test_no_finding_where_tensor_cores_multiply(dtype: str, facts: dict[str, Any]) -> None:
    assert _gpt2(STEP_S["tf32"], dtype, **facts) is None


@pytest.mark.parametrize(("step_s", "is_found"), [(4.0, True), (4.3, False)])
def test_small_parts_of_the_step_are_not_told(step_s: float, is_found: bool) -> None:
    """8.1e12 operations in two passes at 19.5e12 a second are 0.415 s: a tenth of 4.15 s."""
    assert isinstance(_gpt2(step_s), Finding) == is_found


def test_a_card_without_tf32() -> None:
    assert _gpt2(STEP_S["float32"], reading="v100 of a model in pieces") is None


def test_convolutions_use_tf32_anyway() -> None:
    convolution = published.linear("conv", 768, 3072, type="Conv2d", output_shape=(64, 256, 56, 56), flops=4e12)
    window = published.job(
        published.device("a100 at its full clock"), layers=(convolution,), steps=published.steps(1.0)
    )
    assert fp32_matmul.check(window) is None


def test_a_card_of_unknown_peak_is_not_judged() -> None:
    found = fp32_matmul.check(published.job(published.device("3090 on a degraded link"), layers=published.gpt2()))
    assert found == Abstain("no published peak rates of NVIDIA GeForce RTX 3090 are known")


def test_the_healthy_window() -> None:
    assert fp32_matmul.check(published.job(device())) is None
