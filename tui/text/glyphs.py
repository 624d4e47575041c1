"""Bars, curves and cut text, in columns of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from torchtop.tui.text.plain import printable

_EIGHTHS = " ▏▎▍▌▋▊▉█"  # of a column, from the left
_LEVELS = "▁▂▃▄▅▆▇█"  # of a row, from below


def bar(share: float | None, width: int) -> str:
    """`share` of `width` columns, in eighths of a column; a share that is not 0 shows."""
    if share is None or width < 1:
        return " " * max(width, 0)
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def head(text: str, width: int) -> str:
    """`text` in exactly `width` columns: its end is cut off where it is too long."""
    text = printable(text)
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def tail(text: str, width: int) -> str:
    """`text` in exactly `width` columns: its beginning is cut off, for the end of a module's name tells it apart."""
    text = printable(text)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size("…" + text, width)


def curve(values: Sequence[float | None], width: int, height: int = 1, top: float | None = None) -> list[str]:
    """The latest `width` values, one in a column, as blocks up to `top` (the largest if None): rows, highest first.

    They end at the right. A missing value is a gap; one of zero still shows its lowest block.
    """
    shown = list(values[-width:]) if width > 0 else []
    highest = top if top is not None else max((value for value in shown if value is not None), default=0.0)
    eighths = [None if value is None else _eighths(value, highest, height) for value in shown]
    return ["".join(_block(filled, row) for filled in eighths).rjust(max(width, 0)) for row in reversed(range(height))]


def _eighths(value: float, highest: float, height: int) -> int:
    share = min(max(value / highest, 0.0), 1.0) if highest > 0 else 0.0
    return max(round(share * height * 8), 1)


def _block(filled: int | None, row: int) -> str:
    """What a column that is filled up to `filled` eighths of a row shows in `row`, counted from below."""
    return " " if filled is None or filled <= 8 * row else _LEVELS[min(filled - 8 * row, 8) - 1]
