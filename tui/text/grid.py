"""Labels and numbers in columns that stay where they are when a number changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from torchtop.tui.text.glyphs import head
from torchtop.tui.text.plain import printable

CELL = 15  # columns: "samples/s 9.38k"; three fit in the left column of an 80-column screen
_GAP = 2


class Cell(NamedTuple):
    """A label at the left and a value at the right end of some columns; kind: of the value, as in themes.py."""

    label: str
    value: str
    kind: str = "number"


def cell(one: Cell, width: int) -> Text:
    """In exactly `width` columns; the label gives way."""
    room = width - cell_len(one.value)
    return Text.assemble((head(one.label, room) if room > 1 else " " * max(room, 0), "quiet"), (one.value, one.kind))


def named(name: str, value: str) -> Text:
    """A label and a value in as many columns as they need."""
    return Text.assemble((f"{name} ", "quiet"), (printable(value), "number"))


def grid(cells: Sequence[Cell], width: int, each: int = CELL) -> list[Text]:
    """Line by line, as many in a line as there is room for."""
    return rows([cell(one, each) for one in cells], width, each)


def rows(texts: Sequence[Text], width: int, each: int) -> list[Text]:
    """Texts of `each` columns, as many in a line as there is room for."""
    in_a_row = per_row(width, each)
    gap = Text(" " * _GAP)
    return [gap.join(texts[first : first + in_a_row]) for first in range(0, len(texts), in_a_row)]


def per_row(width: int, each: int) -> int:
    """How many texts of `each` columns stand in a line."""
    return max((width + _GAP) // (each + _GAP), 1)


def flow(texts: Sequence[Text], width: int) -> list[Text]:
    """Texts one after the other, as many in a line as there is room for; each in its own width."""
    lines: list[Text] = []
    for text in texts:
        if lines and lines[-1].cell_len + _GAP + text.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], " " * _GAP, text)
        else:
            lines.append(text)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines
