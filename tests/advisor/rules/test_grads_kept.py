"""Edges of grads-kept, and where it knows no time."""

from __future__ import annotations

import pytest

from tests.advisor.windows import WINDOW_S, facts, on_gpu, rank, seen
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import grads_kept
from torchtop.seen import ZeroGrad
from torchtop.snapshot import Finding, Frame

AT = Frame(function="train", file="/job/train.py", line=41)


def zeroed(part: float, kept: int = 200) -> ZeroGrad:
    """200 calls that take `part` of the time."""
    return ZeroGrad(calls=200, seconds=part * WINDOW_S, kept=kept, at=AT)


@pytest.mark.parametrize(("part", "severity"), [(0.001, "info"), (0.024, "info"), (0.026, "warn"), (0.3, "warn")])
def test_severity_by_the_time_that_zeroing_and_adding_take(part: float, severity: str) -> None:
    found = grads_kept.check(seen(rank(zero_grad=zeroed(part), facts=facts(grads_kept=True))))
    assert isinstance(found, Finding)
    assert found.severity == severity
    assert found.recoverable_s == pytest.approx(2 * part * 0.1, rel=0.02)
    assert (found.where["file"], found.where["line"]) == ("/job/train.py", 41)


def test_on_a_gpu_the_seconds_are_of_launches() -> None:
    found = grads_kept.check(on_gpu(zero_grad=zeroed(0.3)))
    assert isinstance(found, Finding)
    assert (found.severity, found.recoverable_s) == ("info", None)


def test_gradients_that_are_dropped_are_well() -> None:
    assert grads_kept.check(seen(rank(zero_grad=zeroed(0.3, kept=0)))) is None
    assert grads_kept.check(seen(rank(zero_grad=None, facts=facts(grads_kept=False)))) is None


def test_without_a_call_of_zero_grad_no_time_is_claimed() -> None:
    found = grads_kept.check(seen(rank(zero_grad=None, facts=facts(grads_kept=True))))
    assert isinstance(found, Finding)
    assert (found.severity, found.recoverable_s) == ("info", None)


def test_what_was_not_seen_abstains() -> None:
    assert isinstance(grads_kept.check(seen(rank(zero_grad=None, facts=facts(grads_kept=None)))), Abstain)
