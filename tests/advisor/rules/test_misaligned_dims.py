"""Edges of misaligned-dims, on GPT-2's vocabulary."""

from __future__ import annotations

import pytest

from tests.advisor import published
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import misaligned_dims
from torchtop.snapshot import Finding, Layer


def _judge(*layers: Layer, step_s: float = 0.1, reading: str = "a100 at its full clock") -> Judgement:
    return misaligned_dims.check(published.job(published.device(reading), layers=layers, steps=published.steps(step_s)))


def test_gpt2s_vocabulary() -> None:
    found = _judge(*published.gpt2("bfloat16"), step_s=published.GPT2_STEP_S["flash"])
    assert isinstance(found, Finding)
    assert found.where["layer"] == "lm_head"
    assert found.evidence[-1].value == 50257
    # Padding it took the step from 96 to 93 ms.
    assert found.severity == "info"
    assert found.recoverable_s is not None and 0.001 < found.recoverable_s < 0.004


def test_gpt2s_vocabulary_padded() -> None:
    assert _judge(*published.gpt2("bfloat16", 50304), step_s=published.GPT2_STEP_S["padded"]) is None


@pytest.mark.parametrize(("step_s", "severity"), [(0.05, "warn"), (0.2, "info")])
def test_severity_by_the_time_they_take_at_least(step_s: float, severity: str) -> None:
    """2.5e12 operations at 312e12 a second are 8 ms."""
    found = _judge(*published.gpt2("bfloat16"), step_s=step_s)
    assert isinstance(found, Finding)
    assert found.severity == severity


@pytest.mark.parametrize(
    ("layer", "is_found"),
    [
        (published.linear("fc", 1000, 1024, dtype="bfloat16"), False),
        (published.linear("fc", 1001, 1024, dtype="bfloat16"), True),
        (published.linear("fc", 1001, 1024, dtype="bfloat16", parameters=1001 * 1024), True),
        (published.linear("fc", 1000, 1025, dtype="bfloat16"), True),
        (published.linear("fc", 1001, 1024, dtype="float32"), False),
        (published.linear("c", 3, 64, dtype="float16", type="Conv2d", output_shape=(64, 64, 112, 112)), False),
        (published.linear("c", 64, 63, dtype="float16", type="Conv2d", output_shape=(64, 63, 56, 56)), True),
    ],
)
def test_sizes(layer: Layer, is_found: bool) -> None:
    assert isinstance(_judge(layer), Finding) == is_found


def test_a_small_head_of_ten_classes_is_not_told() -> None:
    body = published.linear("body", 4096, 4096, dtype="bfloat16")
    assert _judge(body, published.linear("head", 4096, 10, dtype="bfloat16")) is None


def test_a_card_of_unknown_peak_has_no_seconds() -> None:
    found = _judge(*published.gpt2("float16"), reading="3090 on a degraded link")
    assert isinstance(found, Finding)
    assert (found.severity, found.confidence, found.recoverable_s) == ("info", "low", None)
