"""What a row says, without and with all inside."""

from __future__ import annotations

import pytest

from tests.tui.layers.layer_rows import STEP_S, layer
from torchtop.snapshot import Layer
from torchtop.tui.layers.times import Measure, alone, ratio, together, total
from torchtop.tui.layers.tree import Tree


def measured(*layers: Layer) -> dict[str, Measure]:
    return together(Tree([one.name for one in layers]), {one.name: one for one in layers}, STEP_S)


def test_a_module_has_its_own_inclusive_times_and_sums_of_what_can_be_added() -> None:
    root = layer("", 0.001, 0.02, activation_bytes=None, flops=None)
    inner = layer("a", 0.012, activation_bytes=100, flops=2.4e9)
    found = measured(root, inner)[""]
    assert (found.forward_s, found.backward_s, found.total_s) == (0.021, 0.021, 0.042)  # not 0.013, what is seen inside
    assert found.share == pytest.approx(0.42)
    assert found.self_s == 0.002
    assert (found.parameters, found.parameter_bytes, found.activation_bytes) == (20, 80, 100)
    assert found.rate == pytest.approx(2.4e9 / 0.021)


def test_a_holder_is_the_sum_of_what_it_holds() -> None:
    found = measured(layer("", 0.0, 0.03), layer("list.0", 0.01, recompute_s=0.004), layer("list.1", 0.02))["list"]
    assert found.type == ""
    assert found.forward_s == pytest.approx(0.03)
    assert found.share == pytest.approx(0.6)
    assert found.recompute_s == 0.004
    assert found.self_s is None
    assert found.calls is None


def test_what_is_not_known_stays_so() -> None:
    for name, found in measured(layer(""), layer("list.0"), layer("list.1")).items():
        numbers = (found.forward_s, found.backward_s, found.share, found.self_s, found.total_s, found.rate)
        assert numbers == (None,) * 6, name


def test_without_what_is_inside() -> None:
    found = alone(layer("a", 0.002, 0.01, flops=1e6))
    assert (found.forward_s, found.total_s, found.share) == (0.002, 0.024, 0.04)
    assert found.rate == 5e8


def test_sums_and_ratios_of_nothing() -> None:
    assert total(None, None) is None
    assert total(None, 0.0) == 0.0
    assert ratio(1.0, 0.0) is None
    assert ratio(None, 1.0) is None
