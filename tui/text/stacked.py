"""One bar of several parts that can be told apart without colour: each begins with its letter and has a fill of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text


class Part(NamedTuple):
    """letter, fill: one column each; kind: of text, as in themes.py; value: in the unit that the others have, None: not known."""

    name: str
    letter: str
    fill: str
    kind: str
    value: float | None


def stacked(parts: Sequence[Part], whole: float, width: int) -> Text:
    """`parts` of `whole` in `width` columns. A part that is not 0 gets a column at least, the larger ones pay for it."""
    known = [part for part in parts if part.value is not None and part.value > 0]
    columns = _columns([part.value or 0.0 for part in known], whole, width)
    line = Text()
    for part, count in zip(known, columns, strict=True):
        line.append((part.letter + part.fill * count)[:count], part.kind)
    return line


def _columns(values: Sequence[float], whole: float, width: int) -> list[int]:
    """Columns of each value: rounded down, then one more for those that lost most by that, then no zeros."""
    if not values or whole <= 0:
        return [0] * len(values)
    exact = [value / whole * width for value in values]
    columns = [int(part) for part in exact]
    spare = min(round(sum(exact)), width) - sum(columns)
    for index in sorted(range(len(values)), key=lambda index: columns[index] - exact[index])[: max(spare, 0)]:
        columns[index] += 1
    columns = [max(count, 1) for count in columns]
    while sum(columns) > width and max(columns) > 1:
        columns[columns.index(max(columns))] -= 1
    return columns
