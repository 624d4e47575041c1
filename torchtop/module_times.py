"""What each module took in one armed step, in columns: a model has thousands of modules, a window dozens of its steps.

As one object for each, the collector of cycles would have to look at all of them, which stops a screen for 0.2 s.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from operator import attrgetter

_NAN = float("nan")


class ModuleTimes:
    """What one module took in one armed step."""

    __slots__ = ("backward_s", "calls", "forward_s", "recompute_s", "self_backward_s", "self_forward_s")

    def __init__(self) -> None:
        self.calls = 0
        self.forward_s = 0.0
        self.self_forward_s = 0.0
        self.backward_s: float | None = None
        self.self_backward_s: float | None = None
        self.recompute_s: float | None = None

    @property
    def self_s(self) -> float:
        """Own forward and own backward together."""
        return self.self_forward_s + (self.self_backward_s or 0.0)


# Column -> what stands in it for a module that was not called: nothing at all, or no time.
COLUMNS = {
    "calls": 0.0,
    "forward_s": 0.0,
    "self_forward_s": 0.0,
    "self_s": 0.0,
    "backward_s": _NAN,
    "self_backward_s": _NAN,
    "recompute_s": _NAN,
}
_values = attrgetter(*COLUMNS)


class PackedTimes(Mapping[int, ModuleTimes]):
    """The times of the modules of one step, by index and in the order of indices.

    NaN in a column is None outside; a column of nothing else is not kept.
    """

    __slots__ = ("columns", "indices")

    def __init__(self, times: Mapping[int, ModuleTimes]) -> None:
        self.indices = array("q", sorted(times))
        rows = [_values(times[index]) for index in self.indices]
        self.columns = {
            name: array("d", [_NAN if value is None else value for value in column])
            for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=bool(rows))
            if any(value is not None for value in column)
        }

    def __getitem__(self, index: int) -> ModuleTimes:
        at = bisect_left(self.indices, index)
        if at == len(self.indices) or self.indices[at] != index:
            raise KeyError(index)
        found = ModuleTimes()
        for name in ModuleTimes.__slots__:
            column = self.columns.get(name)
            setattr(found, name, None if column is None or isnan(column[at]) else column[at])
        found.calls = int(found.calls)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def columns_of(self, indices: array[int]) -> dict[str, Sequence[float]]:
        """The columns for the modules `indices`, which are all of this step's and maybe more, in order."""
        found: dict[str, Sequence[float]] = {}
        places: list[int] | None = None
        if indices != self.indices:
            place = {index: at for at, index in enumerate(self.indices)}
            places = [place.get(index, len(place)) for index in indices]
        for name, absent in COLUMNS.items():
            own = self.columns.get(name)
            if own is None:
                found[name] = [absent] * len(indices)
            else:
                found[name] = own if places is None else [*map([*own, absent].__getitem__, places)]
        return found
