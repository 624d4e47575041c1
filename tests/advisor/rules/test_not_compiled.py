"""not-compiled on GPT-2, before and after it was compiled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import not_compiled
from torchtop.snapshot import Finding

STEP_S = published.GPT2_STEP_S


def _gpt2(step_s: float, util: float = 1.0, **facts: Any) -> Judgement:
    window = published.job(
        published.device("a100 at its full clock", util=util),
        steps=published.steps(step_s),
        layers=published.gpt2("bfloat16"),
        facts=published.on_cuda(**facts),
    )
    return not_compiled.check(window)


def test_gpt2_in_bfloat16_before_and_after() -> None:
    """300 ms, then 130 ms compiled."""
    found = _gpt2(STEP_S["bfloat16"])
    assert isinstance(found, Finding)
    assert (found.severity, found.recoverable_s) == ("info", None)
    assert _gpt2(STEP_S["compiled"], compiled_frames=13) is None


@pytest.mark.parametrize(
    ("step_s", "util", "is_found"),
    [(0.30, 0.81, True), (0.30, 0.79, False), (0.132, 1.0, True), (0.128, 1.0, False)],
)
def test_edges(step_s: float, util: float, is_found: bool) -> None:
    """12.1e12 operations in three passes at 312e12 a second are 39 ms: 30 % of 130 ms."""
    assert isinstance(_gpt2(step_s, util), Finding) == is_found


def test_few_layers_are_not_worth_it() -> None:
    layers = published.gpt2("bfloat16")[:49]
    window = published.job(published.device("a100 at its full clock"), layers=layers)
    assert not_compiled.check(window) is None
