"""no-autocast against what 16 bits were measured to give."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import device
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import no_autocast
from torchtop.snapshot import Finding

STEP_S = published.GPT2_STEP_S


def _gpt2(step_s: float, dtype: str = "float32", reading: str = "a100 at its full clock", **facts: Any) -> Judgement:
    window = published.job(
        published.device(reading),
        steps=published.steps(step_s),
        layers=published.gpt2(dtype),
        facts=published.on_cuda(**facts),
    )
    return no_autocast.check(window)


@pytest.mark.parametrize(
    ("step_s", "facts", "severity"),
    [
        (STEP_S["float32"], {}, "info"),  # TF32 is the smaller change
        (STEP_S["tf32"], {"tf32_matmul": True}, "info"),  # 333 to 300 ms: 10 % were measured, 8 % can be shown
        (0.2, {"tf32_matmul": True}, "warn"),
        (0.6, {"tf32_matmul": True}, None),
    ],
)
def test_gpt2_on_an_a100(step_s: float, facts: dict[str, Any], severity: str | None) -> None:
    found = _gpt2(step_s, **facts)
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_what_it_says_is_less_than_what_was_measured() -> None:
    found = _gpt2(STEP_S["tf32"], tf32_matmul=True)
    assert isinstance(found, Finding) and found.recoverable_s is not None
    assert 0.02 < found.recoverable_s < STEP_S["tf32"] - STEP_S["bfloat16"]
    assert found.remedies == ("bf16-autocast",)


def test_a_card_with_float16_only() -> None:
    """V100: 15.7 against 125 TFLOP/s, and no bfloat16 to propose."""
    found = _gpt2(STEP_S["float32"], reading="v100 of a model in pieces")
    assert isinstance(found, Finding)
    assert (found.severity, found.remedies) == ("warn", ())


@pytest.mark.parametrize(("dtype", "facts"), [("bfloat16", {}), ("float32", {"autocast": "bfloat16"})])
def test_no_finding_where_16_bits_are_used(dtype: str, facts: dict[str, Any]) -> None:
    assert _gpt2(STEP_S["bfloat16"], dtype, **facts) is None


def test_the_healthy_window() -> None:
    assert no_autocast.check(published.job(device())) is None
