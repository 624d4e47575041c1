"""What moves on a live screen, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.tui.layers.layer_rows import STEP_S, layer
from torchtop.tui.layers.steady import SAME_NUMBER, SAME_PLACE, SAME_PLACE_OF_TOP, SAME_TIME, SteadyOrder, steady

SHOWN = layer("a", 0.01)


@pytest.mark.parametrize(
    ("fields", "moves"),
    [
        ({"self_forward_s": 0.01 * (1 + 0.9 * SAME_NUMBER)}, False),
        ({"self_forward_s": 0.01 * (1 + 1.1 * SAME_NUMBER)}, True),
        ({"self_forward_s": 0.01 * (1 - 1.1 * SAME_NUMBER)}, True),
        ({"backward_s": None}, True),
        ({"recompute_s": 0.001}, True),
        ({"calls": 2.0}, True),
        ({"output_shape": (4, 4)}, True),
        ({"activation_bytes": 7}, True),
    ],
)
def test_a_row_changes_when_one_of_its_numbers_has(fields: dict[str, Any], moves: bool) -> None:
    new = replace(SHOWN, **fields)
    assert steady(SHOWN, new, STEP_S) is (new if moves else SHOWN)


def test_a_slow_drift_is_followed() -> None:
    shown = SHOWN
    for step in range(1, 101):
        new = replace(SHOWN, self_forward_s=0.01 * 1.001**step)
        shown = steady(shown, new, STEP_S)
        assert shown.self_forward_s == pytest.approx(new.self_forward_s, rel=1.05 * SAME_NUMBER)


def test_the_smallest_times_change_in_steps_of_the_clock() -> None:
    small = layer("a", 2 * SAME_TIME * STEP_S)
    new = replace(small, self_forward_s=2.9 * SAME_TIME * STEP_S)
    assert steady(small, new, STEP_S) is small
    assert steady(small, new, None) is new


def test_alike_rows_keep_their_places() -> None:
    order = SteadyOrder()
    order.hold({"a": 1.0, "b": 0.99, "c": 0.5})
    assert order.sort("cba") == ["a", "b", "c"]
    order.hold({"a": 1.0 - 0.9 * SAME_PLACE, "b": 1.0, "c": 0.5})
    assert order.sort("cba") == ["a", "b", "c"]
    order.hold({"a": 0.85, "b": 1.0, "c": 0.5})
    assert order.sort("cba") == ["b", "a", "c"]


def test_small_ones_keep_theirs_until_they_matter() -> None:
    order = SteadyOrder()
    order.hold({"top": 1.0, "a": 0.001, "b": 0.0})
    order.hold({"top": 1.0, "a": 0.001, "b": 0.9 * SAME_PLACE_OF_TOP})
    assert order.sort(["b", "a", "top"]) == ["top", "a", "b"]
    order.hold({"top": 1.0, "a": 0.001, "b": 1.1 * SAME_PLACE_OF_TOP})
    assert order.sort(["b", "a", "top"]) == ["top", "b", "a"]


def test_without_a_value_they_are_last_in_the_order_given() -> None:
    order = SteadyOrder()
    order.hold({"a": None, "b": 0.1, "c": None, "d": 0.0})
    assert order.sort(["c", "a", "d", "b"]) == ["b", "d", "c", "a"]


def test_another_order_is_exact() -> None:
    order = SteadyOrder()
    order.hold({"a": 1.0, "b": 0.99})
    order.forget()
    order.hold({"a": 0.99, "b": 1.0})
    assert order.sort("ab") == ["b", "a"]
