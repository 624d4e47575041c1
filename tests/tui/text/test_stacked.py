"""One bar of several parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchtop.tui.text.stacked import Part, stacked


def parts(*values: float | None) -> list[Part]:
    return [Part(name, name, name.lower(), "bar", value) for name, value in zip("ABCDEFG", values, strict=False)]


@pytest.mark.parametrize(
    ("values", "whole", "text"),
    [
        ((5.0, 5.0), 10.0, "AaaaaBbbbb"),
        ((9.999, 0.001), 10.0, "AaaaaaaaaB"),
        ((5.0, None, 2.5), 10.0, "AaaaaCcc"),
        ((0.0, 10.0), 10.0, "Bbbbbbbbbb"),
        ((5.0,), 20.0, "Aa"),
        ((), 1.0, ""),
        ((1.0,), 0.0, ""),
    ],
)
def test_stacked(values: tuple[float | None, ...], whole: float, text: str) -> None:
    assert stacked(parts(*values), whole, 10).plain == text


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=7), st.integers(7, 200))
def test_every_part_shows_and_the_bar_is_full(values: list[float], width: int) -> None:
    text = stacked(parts(*values), sum(values), width).plain
    assert {letter for letter in text if letter.isupper()} == set("ABCDEFG"[: len(values)])
    assert len(text) == width
