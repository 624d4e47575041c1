"""What was changed in the job."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.tui import scenes
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.journal import JournalPanel
from torchtop.tui.view import View

KEPT: dict[str, Any] = {
    "id": 1,
    "remedy": "fused-optimizer",
    "state": "kept",
    "step": 1200,
    "user": "ada",
    "measured": {"goal": "time", "step_ratio": 0.921, "ci": [0.91, 0.93], "method": "interleaved"},
    "reason": None,
}
REFUSED: dict[str, Any] = {"id": 2, "remedy": "more-workers", "state": "refused", "user": "ada", "reason": "no loader"}


@pytest.fixture
def panel() -> JournalPanel:
    return JournalPanel(Pen())


@pytest.fixture
def changed() -> Snapshot:
    return replace(scenes.healthy(), journal=(KEPT, REFUSED))


def test_it_fits(panel: JournalPanel, changed: Snapshot) -> None:
    check_all_sizes(panel, changed, left=False)
    check_all_sizes(panel, scenes.healthy(), left=False)


def test_nothing(panel: JournalPanel) -> None:
    assert drawn(panel, scenes.healthy(), 30, 1) == ["nothing was changed in the job"]
    assert panel.wants(View(scenes.healthy(), 80, 24)) == 2


def test_the_newest_first(panel: JournalPanel, changed: Snapshot) -> None:
    lines = texts(panel, changed, 45, 4)
    assert [line.plain.split() for line in lines] == [
        ["2", "refused", "more-workers"],
        ["1", "kept", "fused-optimizer", "×0.921"],
    ]
    assert styles(lines[1], "kept") == {"good"}
    assert panel.heading(View(changed, 80, 24)) == "2 entries"


def test_more_than_there_is_room_for(panel: JournalPanel, changed: Snapshot) -> None:
    many = replace(changed, journal=(KEPT,) * 5)
    assert drawn(panel, many, 45, 3)[-1] == "3 older entries: no room"


def test_the_zoomed_panel(panel: JournalPanel, changed: Snapshot) -> None:
    lines = drawn(panel, changed, 80, 20, zoomed=True)
    assert lines[0].split() == ["2", "refused", "more-workers"]
    assert lines[1:3] == ["  user ada", "  no loader"]
    assert "  user ada  step 1200" in lines
