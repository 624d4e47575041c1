"""Rows and columns of the panels."""

from __future__ import annotations

import pytest

from tests.tui import scenes
from tests.tui.scripted import Scripted
from torchtop.tui.app import TorchtopApp
from torchtop.tui.arrange import Need, columns, share_out
from torchtop.tui.panels.devices import DevicesPanel
from torchtop.tui.panels.steps import StepsPanel


@pytest.mark.parametrize(
    ("rows", "given"),
    [
        (10, [3, 7]),
        (8, [3, 5]),
        (6, [3, 3]),
        (5, [2, 3]),
        (4, [4, 0]),
        (1, [0, 0]),
    ],
)
def test_share_out(rows: int, given: list[int]) -> None:
    assert share_out(rows, [Need(2, 3), Need(3, 4)]) == given


async def test_columns_are_those_of_the_style_sheet() -> None:
    app = TorchtopApp(Scripted(scenes.healthy()))
    async with app.run_test(size=(80, 24)) as pilot:
        for width in (80, 81, 97, 120, 200):
            await pilot.resize_terminal(width, 24)
            await pilot.pause()
            found = tuple(app.screen.query_one(kind).size.width for kind in (StepsPanel, DevicesPanel))
            assert found == columns(width)
