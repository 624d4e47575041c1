"""Columns of the layers: what they say, and which of them there is room for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from torchtop.tui.layers.times import Measure
from torchtop.tui.text.units import MISSING, amount, duration, percent, size

LEAST_NAME = 18  # columns
MOST_NAME = 60
LEAST_BAR = 5  # columns, with one of space before it
MOST_BAR = 30
GUTTER = 1  # columns left of the name, for the mark of the chosen row
SMALL = 0.001  # of a step: a share below is said to be below

BY_MODEL = "name"


class Column(NamedTuple):
    """width: columns, with one of space before it; value: what to sort by, None where there is nothing to."""

    id: str
    title: str
    width: int
    text: Callable[[Measure], str]
    value: Callable[[Measure], float | None] | None
    left: bool = False


def share(part: float | None) -> str:
    """A share in at most seven columns."""
    return "<0.1 %" if part is not None and 0 < part < SMALL else percent(part)


def shape(sizes: tuple[int, ...] | None) -> str:
    """`8x128x256`; of a single number `()`."""
    if sizes is None:
        return MISSING
    return "x".join(str(one) for one in sizes) or "()"


# As they stand from left to right, after the name.
_TYPE = Column("type", "type", 13, lambda row: row.type or "(sum)", None, left=True)
_SHARE = Column("share", "share", 8, lambda row: share(row.share), lambda row: row.share)
_COLUMNS = (
    _TYPE,
    _SHARE,
    Column("forward", "forward", 8, lambda row: duration(row.forward_s), lambda row: row.forward_s),
    Column("backward", "backward", 9, lambda row: duration(row.backward_s), lambda row: row.backward_s),
    Column("recompute", "recompute", 10, lambda row: duration(row.recompute_s), lambda row: row.recompute_s),
    Column("self", "self", 8, lambda row: duration(row.self_s), lambda row: row.self_s),
    Column("total", "total", 8, lambda row: duration(row.total_s), lambda row: row.total_s),
    Column("calls", "calls", 6, lambda row: amount(row.calls), lambda row: row.calls),
    Column("parameters", "params", 9, lambda row: size(row.parameter_bytes), lambda row: row.parameter_bytes),
    Column("activations", "activ.", 9, lambda row: size(row.activation_bytes), lambda row: row.activation_bytes),
    Column("rate", "FLOP/s", 8, lambda row: amount(row.rate), lambda row: row.rate),
    Column("dtype", "dtype", 10, lambda row: row.dtype or MISSING, None, left=True),
    Column("shape", "output", 17, lambda row: shape(row.shape), None, left=True),
)
# Which of them there must be room for first.
_BY_WORTH = (
    "share",
    "forward",
    "backward",
    "recompute",
    "type",
    "self",
    "total",
    "activations",
    "rate",
    "parameters",
    "calls",
    "shape",
    "dtype",
)


class Fit(NamedTuple):
    """name, bar: columns that each gets, the bar before the share; columns: the others, from left to right."""

    name: int
    bar: int
    columns: tuple[Column, ...]

    @property
    def sorts(self) -> list[str]:
        """What the key for sorting goes through."""
        return [*(column.id for column in self.columns if column.value is not None), BY_MODEL]


def fit(width: int, longest: int, left_out: Collection[str] = ()) -> Fit:
    """The columns for `width`. longest: columns of the longest name; left_out: columns that would say nothing."""
    need = max(min(longest, LEAST_NAME + max(width - 50, 0) // 4, MOST_NAME), LEAST_NAME)
    room = width - GUTTER - need - LEAST_BAR
    chosen = set()
    for name in _BY_WORTH:
        column = find(name)
        if name not in left_out and room >= column.width:
            chosen.add(name)
            room -= column.width
    room = max(room, 0)
    more_name = min(room, max(min(longest, MOST_NAME) - need, 0))
    bar = LEAST_BAR + min(room - more_name, MOST_BAR - LEAST_BAR)
    return Fit(need + more_name, bar, tuple(column for column in _COLUMNS if column.id in chosen))


def find(name: str) -> Column:
    """The column of that id."""
    return next(column for column in _COLUMNS if column.id == name)
