"""How high a curve reaches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchtop.tui.text import scale


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([], None),
        ([None, 0.0], None),
        ([0.11], 0.12),
        ([0.12], 0.12),
        ([0.121], 0.15),
        ([1.0], 1.0),
        ([99.0], 100.0),
        ([0.1] * 9 + [0.39], 0.4),
        ([0.1] * 9 + [10.0], 0.4),
    ],
)
def test_top(values: list[float | None], top: float | None) -> None:
    assert scale.top(values) == (None if top is None else pytest.approx(top))


@given(st.floats(1e-9, 1e9))
def test_a_single_value_fits_and_fills_half(value: float) -> None:
    top = scale.top([value])
    assert top is not None
    assert value * (1 - 1e-6) <= top <= value * 1.7
