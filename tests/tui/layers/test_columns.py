"""Which columns there is room for."""

from __future__ import annotations

import pytest

from torchtop.tui.layers.columns import GUTTER, LEAST_BAR, fit, shape, share


@pytest.mark.parametrize("longest", [0, 6, 18, 40, 200])
@pytest.mark.parametrize("width", [30, 49, 50, 60, 74, 75, 100, 125, 160, 198, 300])
def test_a_row_is_never_wider_than_the_panel(width: int, longest: int) -> None:
    found = fit(width, longest)
    assert GUTTER + found.name + found.bar + sum(column.width for column in found.columns) <= width
    assert found.bar >= LEAST_BAR


def test_more_columns_as_there_is_room_for_them() -> None:
    left_out = ("recompute", "self")
    ids = {width: [column.id for column in fit(width, 22, left_out).columns] for width in (49, 75, 125, 198)}
    assert ids[49] == ["share", "forward", "backward"]
    assert ids[75] == ["type", "share", "forward", "backward", "total"]
    assert set(ids[125]) - set(ids[75]) == {"calls", "parameters", "activations", "rate", "shape"}
    assert set(ids[198]) - set(ids[125]) == {"dtype"}


def test_recomputation_has_its_column_before_other_news() -> None:
    assert "recompute" in [column.id for column in fit(75, 22, ("self",)).columns]


def test_sorting_goes_through_what_can_be_seen() -> None:
    assert fit(49, 22).sorts == ["share", "forward", "backward", "name"]
    assert "type" not in fit(198, 22).sorts


@pytest.mark.parametrize(
    ("part", "text"), [(None, "—"), (0.0, "0 %"), (0.0009, "<0.1 %"), (0.001, "0.100 %"), (0.0937, "9.37 %")]
)
def test_shares_fit_their_column(part: float | None, text: str) -> None:
    assert share(part) == text


def test_shapes() -> None:
    assert [shape(None), shape(()), shape((8, 128, 256))] == ["—", "()", "8x128x256"]
