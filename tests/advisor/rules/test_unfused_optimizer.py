"""Edges of unfused-optimizer, and the optimizers that it must not judge."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import device, facts, on_gpu, phases, rank, rows, seen
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import unfused_optimizer
from torchtop.seen import OptimizerFacts, Seen
from torchtop.snapshot import Finding

ADAMW = OptimizerFacts(kind="AdamW", module="torch.optim.adamw", groups=1, parameters=52, defaults={"fused": None})

SGD = replace(ADAMW, kind="SGD", module="torch.optim.sgd", defaults={"fused": None, "momentum": 0.9})


def job(optimizer: float = 0.3, *optimizers: OptimizerFacts, **changes: Any) -> Seen:
    return seen(rank(steps=rows(optimizer=optimizer), facts=facts(optimizers=optimizers or (ADAMW,)), **changes))


def back(found: Finding) -> float:
    """s of a step that a fused kernel would give back."""
    return next(one.value for one in found.evidence if one.name == "that it would give back")


@pytest.mark.parametrize(("share", "fires"), [(0.0, False), (0.14, False), (0.16, True), (0.8, True)])
def test_by_the_share_of_the_step(share: float, fires: bool) -> None:
    found = unfused_optimizer.check(job(share))
    assert isinstance(found, Finding) is fires


@pytest.mark.parametrize(("kind", "leaves"), [("AdamW", 0.28), ("Adam", 0.28), ("Adagrad", 0.42)])
def test_it_gives_back_what_was_measured_of_that_class(kind: str, leaves: float) -> None:
    found = unfused_optimizer.check(job(0.5, replace(ADAMW, kind=kind)))
    assert isinstance(found, Finding)
    assert back(found) == pytest.approx(0.05 * (1 - leaves), rel=0.02)
    assert found.where["optimizer"] == kind


@pytest.mark.parametrize(
    "optimizer",
    [
        replace(ADAMW, fused=True),
        replace(ADAMW, kind="Adamax", module="torch.optim.adamax"),
        replace(ADAMW, defaults={"lr": 0.1}),  # of a torch without fused kernels
        replace(ADAMW, kind="SGD", defaults={"fused": None, "momentum": 0}),
        replace(ADAMW, defaults={"fused": None, "differentiable": True}),
    ],
    ids=["fused", "no fused kernel", "old torch", "no momentum", "differentiable"],
)
def test_what_cannot_be_fused_is_left_alone(optimizer: OptimizerFacts) -> None:
    assert unfused_optimizer.check(job(0.5, optimizer)) is None


@pytest.mark.parametrize("module", ["lion_pytorch", None, "train"])
def test_a_class_of_ones_own_is_not_judged(module: str | None) -> None:
    assert isinstance(unfused_optimizer.check(job(0.5, replace(ADAMW, module=module))), Abstain)


def test_of_two_optimizers_it_is_not_known_which_takes_the_time() -> None:
    assert isinstance(unfused_optimizer.check(job(0.5, ADAMW, replace(ADAMW, fused=True))), Abstain)
    found = unfused_optimizer.check(job(0.5, ADAMW, SGD))
    assert isinstance(found, Finding)
    assert back(found) == pytest.approx(0.05 * 0.4, rel=0.02)  # the smaller gain of both


@pytest.mark.parametrize(("optimizer", "told"), [(ADAMW, "warn"), (SGD, "info")])
def test_severity_by_what_is_to_be_had(optimizer: OptimizerFacts, told: str) -> None:
    """Of 0.65 of the step 0.468 and 0.26."""
    found = unfused_optimizer.check(job(0.65, optimizer))
    assert isinstance(found, Finding)
    assert found.severity == told
    assert found.recoverable_s == (pytest.approx(back(found)) if told == "warn" else None), "a default hides no cause"


def test_on_a_gpu_the_hosts_time_says_nothing() -> None:
    known = facts(devices=("cuda",), optimizers=(ADAMW,))
    on_host = on_gpu(device(), steps=rows(optimizer=0.5), facts=known)
    assert isinstance(unfused_optimizer.check(seen(replace(on_host.ranks[0], phases_are="host"))), Abstain)
    found = unfused_optimizer.check(
        on_gpu(device(), phases=phases(optimizer=0.3, forward=0.2, backward=0.4), facts=known)
    )
    assert isinstance(found, Finding)
    assert back(found) == pytest.approx(0.3 * 0.1 * 0.25, rel=0.02)


def test_an_optimizer_that_was_not_timed_abstains() -> None:
    untimed = tuple(row._replace(optimizer_s=None) for row in rows())
    assert isinstance(unfused_optimizer.check(seen(rank(steps=untimed, facts=facts(optimizers=(ADAMW,))))), Abstain)
