"""What the tests of all panels do: draw one of a given size, and look at its text."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from torchtop.snapshot import Snapshot
from torchtop.tui.arrange import columns
from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View

SIZES = ((80, 24), (97, 30), (120, 40), (200, 60))


def drawn(panel: Panel, snapshot: Snapshot, width: int, height: int, zoomed: bool = False) -> list[str]:
    """The lines as plain text, without the spaces at their ends. Fails where they do not fit."""
    return [text.plain.rstrip() for text in texts(panel, snapshot, width, height, zoomed)]


def texts(panel: Panel, snapshot: Snapshot, width: int, height: int, zoomed: bool = False) -> list[Text]:
    """The same with their styles."""
    lines = list(panel.draw(View(snapshot, width, height, zoomed)))
    assert len(lines) <= height
    for line in lines:
        assert cell_len(line.plain) <= width, line.plain
        assert "\n" not in line.plain
    return lines


def check_all_sizes(panel: Panel, snapshot: Snapshot, left: bool) -> None:
    """It fits in its column of every screen, in every number of rows that it may be given, and zoomed."""
    for width, height in SIZES:
        column = columns(width)[0 if left else 1]
        wants = panel.wants(View(snapshot, width, height))
        assert panel.LEAST <= max(wants, panel.LEAST)
        for rows in {*range(panel.LEAST - 1, 12), wants - 1, height - 4}:
            drawn(panel, snapshot, column, rows)
        assert any(drawn(panel, snapshot, width, height - 4, zoomed=True))


def styles(line: Text, part: str) -> set[str]:
    """Kinds of the letters of `part` in a line."""
    first = line.plain.index(part)
    found = set()
    for span in line.spans:
        if span.start < first + len(part) and span.end > first:
            found.add(str(span.style))
    return found or {str(line.style)}
