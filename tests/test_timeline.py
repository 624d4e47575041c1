"""Taking one armed step apart: phases that nest, layers, backward order, recomputation."""

from __future__ import annotations

import pytest

from torchtop.modules import ModuleTree
from torchtop.probe import wire
from torchtop.timeline import ArmedStep, Cost, account

FREE = Cost(0.0, 0.0, 0.0, 0, 0)
ROOT, BLOCK, LINEAR, HEAD = range(4)


def tree() -> ModuleTree:
    found = ModuleTree()
    rows = [
        [ROOT, ROOT, "", "Model", 0, 0, None, False],
        [BLOCK, ROOT, "block", "Block", 0, 0, None, False],
        [LINEAR, ROOT, "block.linear", "Linear", 6, 24, 4, True],
        [HEAD, ROOT, "head", "Linear", 6, 24, 4, True],
    ]
    found.add({"root": ROOT, "class": "Model", "parameters": 4, "rows": rows})
    return found


def taken_apart(*marks: tuple[float, int, int], end: float = 10.0, loss_s: float = 0.0, cost: Cost = FREE) -> ArmedStep:
    times = [t for t, _, _ in marks]
    codes = [wire.mark(kind, index) for _, kind, index in marks]
    return account(times, codes, (0.0, end), loss_s, cost, tree())


def test_phases_of_a_plain_step() -> None:
    step = taken_apart(
        (0.0, wire.DATA_BEGIN, 0),
        (1.0, wire.DATA_END, 0),
        (1.5, wire.FORWARD_BEGIN, ROOT),
        (3.5, wire.FORWARD_END, ROOT),
        (4.0, wire.BACKWARD_BEGIN, 0),
        (7.0, wire.BACKWARD_END, 0),
        (7.5, wire.OPTIMIZER_BEGIN, 0),
        (9.0, wire.OPTIMIZER_END, 0),
        loss_s=0.25,
    )
    assert step.phases == pytest.approx(
        {"data": 1.0, "forward": 2.25, "backward": 3.0, "optimizer": 1.5, "other": 2.25}
    )
    assert sum(value for value in step.phases.values() if value is not None) == pytest.approx(step.step_s)


def test_a_closure_optimizer_runs_forward_and_backward_inside_its_step() -> None:
    step = taken_apart(
        (1.0, wire.FORWARD_BEGIN, ROOT),
        (2.0, wire.FORWARD_END, ROOT),
        (2.0, wire.BACKWARD_BEGIN, 0),
        (4.0, wire.BACKWARD_END, 0),
        (0.0, wire.OPTIMIZER_BEGIN, 0),
        (9.0, wire.OPTIMIZER_END, 0),
    )
    assert step.phases["forward"] == pytest.approx(1.0)
    assert step.phases["backward"] == pytest.approx(2.0)
    assert step.phases["optimizer"] == pytest.approx(6.0)


def test_what_was_never_seen_is_none_and_not_zero() -> None:
    step = taken_apart((1.0, wire.FORWARD_BEGIN, ROOT), (2.0, wire.FORWARD_END, ROOT))
    assert step.phases["data"] is None and step.phases["backward"] is None and step.phases["optimizer"] is None


def test_the_probes_own_cost_is_taken_off() -> None:
    cost = Cost(forward_s=0.4, backward_s=0.2, outside_s=0.1, calls=4, taps=4)
    step = taken_apart(
        (0.0, wire.FORWARD_BEGIN, ROOT),
        (4.0, wire.FORWARD_END, ROOT),
        (4.0, wire.BACKWARD_BEGIN, 0),
        (8.0, wire.BACKWARD_END, 0),
        cost=cost,
    )
    assert step.step_s == pytest.approx(9.3)
    assert step.phases["forward"] == pytest.approx(3.6)
    assert step.phases["backward"] == pytest.approx(3.8)


def test_forward_is_inclusive_and_own() -> None:
    step = taken_apart(
        (0.0, wire.FORWARD_BEGIN, ROOT),
        (1.0, wire.FORWARD_BEGIN, BLOCK),
        (2.0, wire.FORWARD_BEGIN, LINEAR),
        (5.0, wire.FORWARD_END, LINEAR),
        (6.0, wire.FORWARD_END, BLOCK),
        (8.0, wire.FORWARD_END, ROOT),
    )
    assert [step.modules[i].forward_s for i in (ROOT, BLOCK, LINEAR)] == pytest.approx([8.0, 5.0, 3.0])
    assert [step.modules[i].self_forward_s for i in (ROOT, BLOCK, LINEAR)] == pytest.approx([3.0, 2.0, 3.0])


def test_backward_follows_the_order_of_registration() -> None:
    """On one node the child says IN before its parent, and the producer IN before its consumer OUT."""
    step = taken_apart(
        (1.0, wire.BACKWARD_BEGIN, 0),
        (2.0, wire.BACKWARD_IN, HEAD),
        (2.0, wire.BACKWARD_IN, ROOT),
        (5.0, wire.BACKWARD_IN, LINEAR),
        (5.0, wire.BACKWARD_IN, BLOCK),
        (5.0, wire.BACKWARD_OUT, HEAD),
        (8.0, wire.BACKWARD_OUT, LINEAR),
        (9.0, wire.BACKWARD_END, 0),
    )
    own = {index: times.self_backward_s for index, times in step.modules.items()}
    assert own[HEAD] == pytest.approx(3.0)
    assert own[LINEAR] == pytest.approx(3.0)
    assert own[BLOCK] == pytest.approx(1.0)
    assert step.modules[BLOCK].backward_s == pytest.approx(4.0)
    assert step.modules[ROOT].backward_s == pytest.approx(7.0)


def test_recomputation_is_labelled_and_counted_neither_as_call_nor_as_backward() -> None:
    step = taken_apart(
        (0.0, wire.FORWARD_BEGIN, LINEAR),
        (1.0, wire.FORWARD_END, LINEAR),
        (2.0, wire.BACKWARD_BEGIN, 0),
        (3.0, wire.RECOMPUTE_BEGIN, LINEAR),
        (4.0, wire.RECOMPUTE_END, LINEAR),
        (4.5, wire.BACKWARD_IN, LINEAR),
        (6.5, wire.BACKWARD_END, 0),
    )
    linear = step.modules[LINEAR]
    assert linear.calls == 1
    assert linear.recompute_s == pytest.approx(1.0)
    assert linear.self_backward_s == pytest.approx(2.0)
    assert step.phases["forward"] == pytest.approx(1.0)
    assert step.phases["backward"] == pytest.approx(4.5)


def test_a_forward_that_raised_does_not_swallow_the_rest() -> None:
    step = taken_apart(
        (0.0, wire.FORWARD_BEGIN, ROOT),
        (1.0, wire.FORWARD_BEGIN, LINEAR),
        (2.0, wire.DATA_BEGIN, 0),
        (3.0, wire.DATA_END, 0),
        (9.0, wire.BACKWARD_BEGIN, 0),
        (9.5, wire.BACKWARD_END, 0),
    )
    assert step.phases["forward"] == pytest.approx(2.0)
    assert step.phases["other"] == pytest.approx(6.5)


def test_names_lose_what_wrappers_add() -> None:
    found = ModuleTree()
    rows = [
        [0, 0, "", "DistributedDataParallel", 0, 0, None, False],
        [1, 0, "module", "Model", 0, 0, None, False],
        [2, 0, "module.module", "Linear", 6, 24, 4, True],
    ]
    found.add({"root": 0, "class": "DistributedDataParallel", "parameters": 2, "rows": rows})
    found.add({"root": 3, "class": "MSELoss", "parameters": 0, "rows": [[3, 3, "", "MSELoss", 0, 0, None, True]]})
    assert [found.shown_name(i, found.trained_roots(found.modules)) for i in range(4)] == [
        None,
        "",
        "module",
        "MSELoss:",
    ]


def test_what_a_closure_does_inside_the_optimizer_is_not_the_optimizers() -> None:
    step = taken_apart(
        (1.0, wire.OPTIMIZER_BEGIN, 0),
        (2.0, wire.FORWARD_BEGIN, ROOT),
        (4.0, wire.FORWARD_END, ROOT),
        (4.5, wire.BACKWARD_BEGIN, 0),  # the loss before it is forward
        (7.5, wire.BACKWARD_END, 0),
        (9.0, wire.OPTIMIZER_END, 0),
    )
    assert step.phases["forward"] == pytest.approx(2.5)
    assert step.phases["backward"] == pytest.approx(3.0)
    assert step.phases["optimizer"] == pytest.approx(2.5)


def test_a_gradient_taken_inside_forward_is_backward_and_forward_goes_on() -> None:
    step = taken_apart(
        (1.0, wire.FORWARD_BEGIN, ROOT),
        (2.0, wire.GRAD_BEGIN, 0),
        (5.0, wire.GRAD_END, 0),
        (6.0, wire.FORWARD_END, ROOT),
    )
    assert step.phases["forward"] == pytest.approx(2.0)
    assert step.phases["backward"] == pytest.approx(3.0)
