"""How many rows each panel of a column gets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SMALLEST = (80, 24)  # columns, rows: below this there is a sentence instead of panels


def columns(width: int) -> tuple[int, int]:
    """(left, right): what app.tcss makes of a screen of `width` columns; one stays empty between them."""
    left = (width - 1) * 5 // 8
    return left, width - 1 - left


class Need(NamedTuple):
    """least: rows without which a panel is better left out; wants: rows that it could fill."""

    least: int
    wants: int


def share_out(rows: int, needs: Sequence[Need]) -> list[int]:
    """Rows of each panel, from the top: first what each needs, as long as there is any, then what each wants.

    Where not even the least is there for all, the last ones get none. What nobody wants goes to the last one shown.
    """
    given = [0] * len(needs)
    left = rows
    for index, need in enumerate(needs):
        if need.least > left:
            break
        given[index] = need.least
        left -= need.least
    for index, need in enumerate(needs):
        if given[index]:
            more = min(max(need.wants - given[index], 0), left)
            given[index] += more
            left -= more
    shown = [index for index, height in enumerate(given) if height]
    if shown:
        given[shown[-1]] += left
    return given
