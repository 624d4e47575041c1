"""The list of layers as its user has arranged it: sorted, filtered, folded, with a chosen row. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from torchtop.snapshot import Layer
from torchtop.tui.layers.columns import BY_MODEL, find
from torchtop.tui.layers.steady import SAME_NUMBER, SAME_OUT_OF_TURN, TURNS, SteadyOrder, alike, steady
from torchtop.tui.layers.times import Measure, alone, together
from torchtop.tui.layers.tree import Tree, around


class Row(NamedTuple):
    """depth: of the tree, 0 in the flat list; open: whether what is inside is shown, None where nothing is."""

    name: str
    depth: int
    open: bool | None


class LayerTable:
    """Begins as a flat list by share: times without children add up to the step, so its top is where the time goes.

    The chosen row is known by its name: it stays chosen when rows change places. Before anything was chosen it is the
    first one. Rows are made when they are asked for, once for each snapshot and each change of mind.
    """

    def __init__(self) -> None:
        self.flat = True
        self.sort = "share"
        self.words = ""
        self.tree = Tree(())
        self.layers: dict[str, Layer] = {}
        """As they are shown; `steady` says how that differs from the newest."""
        self.recomputes = False
        """Whether any of them does its forward again in backward."""
        self._step_s: float | None = None
        self._taken = 0
        self._chosen: str | None = None
        self._place = 0  # of the chosen row, for when it is gone
        self._unfolded: frozenset[str] | None = None
        self._order = SteadyOrder()
        self._alone: dict[str, Measure] | None = None
        self._together: dict[str, Measure] | None = None
        self._rows: list[Row] | None = None
        self._top = 0

    def take(self, layers: Sequence[Layer], step_s: float | None) -> None:
        """The layers of one rank in the order of the model; step_s: s, mean of the sampled steps."""
        shown = self.layers
        self._taken += 1
        self.layers = {}
        for place, layer in enumerate(layers):
            before = shown.get(layer.name)
            same = SAME_NUMBER if (place + self._taken) % TURNS == 0 else SAME_OUT_OF_TURN
            self.layers[layer.name] = steady(before, layer, step_s, same) if before is not None else layer
        self.recomputes = any(layer.recompute_s is not None for layer in layers)
        if not alike(self._step_s, step_s):
            self._step_s = step_s  # every share of the tree hangs on it
        if self.tree.called != tuple(self.layers):
            self.tree = Tree(self.layers)
        self._alone = self._together = self._rows = None
        if self._unfolded is None and any(layer.forward_s is not None for layer in layers):
            self._unfolded = frozenset(self._hottest_path())

    def forget(self) -> None:
        """Another rank follows: its numbers are not those of the one before, only moved."""
        self.layers = {}
        self._step_s = None
        self._order.forget()

    # What is shown

    @property
    def measures(self) -> dict[str, Measure]:
        """What each row says: in the tree of a module with all inside, in the flat list without."""
        return self.alone if self.flat else self.together

    @property
    def alone(self) -> dict[str, Measure]:
        """Each module without what is inside it."""
        if self._alone is None:
            self._alone = {name: alone(layer) for name, layer in self.layers.items()}
        return self._alone

    @property
    def together(self) -> dict[str, Measure]:
        """Each module and holder with all inside."""
        if self._together is None:
            self._together = together(self.tree, self.layers, self._step_s)
        return self._together

    @property
    def rows(self) -> list[Row]:
        """All rows that there are, from the top."""
        if self._rows is None:
            self._hold()
            self._rows = list(self._flat_rows() if self.flat else self._tree_rows())
        return self._rows

    @property
    def matches(self) -> int:
        """Modules that the filter lets through."""
        return sum(1 for _ in self._matching())

    @property
    def chosen(self) -> str | None:
        """Name of the chosen row; None where there are no rows."""
        return self.rows[self.place].name if self.rows else None

    @property
    def place(self) -> int:
        """Where the chosen row is. Where it is gone, the one in its place is chosen; 0 when there is none."""
        rows = self.rows
        if self._chosen is not None:
            found = next((place for place, row in enumerate(rows) if row.name == self._chosen), None)
            if found is not None:
                self._place = found
        return min(self._place, max(len(rows) - 1, 0))

    def window(self, height: int) -> list[Row]:
        """`height` rows around the chosen one; they scroll only when it would leave them."""
        place, count = self.place, len(self.rows)
        self._top = min(max(self._top, place - height + 1), place, max(count - height, 0))
        return self.rows[self._top : self._top + height]

    # What its user does

    def move(self, by: int) -> None:
        """Choose the row so many places further down."""
        self._choose_place(self.place + by)

    def to_end(self, last: bool) -> None:
        """Choose the first or the last row."""
        self._choose_place(len(self.rows) - 1 if last else 0)

    def choose(self, name: str) -> None:
        """Choose the row of that name, and unfold what is around it."""
        self._chosen = name
        if not self.flat:
            self._unfold(self.tree.lineage(name))

    def sort_by(self, column: str) -> None:
        """Largest first, or in the order of the model."""
        self.sort = column
        self._start_anew()

    def turn(self) -> None:
        """From the flat list to the tree and back; the chosen module stays in sight."""
        chosen = self._chosen
        self.flat = not self.flat
        if self.sort in ("self", "total"):
            self.sort = "share"  # each of the two is a column of one shape only
        self._start_anew()
        if chosen is not None:
            self.choose(chosen)

    def search(self, words: str) -> None:
        """Show only what has these letters in its name or type."""
        self.words = words
        self._rows = None

    def fold(self) -> None:
        """Hide what is inside the chosen module; where that is hidden already, choose the one around it."""
        row = self._row()
        if row is None or self.flat:
            return
        if row.open and not self.words:
            self._unfolded = self._open - {row.name}
            self._rows = None
        elif row.depth:
            self._chosen = around(row.name)

    def unfold(self) -> None:
        """Show what is inside the chosen module; where that is shown, choose the first of it."""
        row = self._row()
        if row is None or self.flat or row.open is None:
            return
        if row.open:
            self.move(1)
        else:
            self._unfold([row.name])

    def fold_all(self) -> None:
        """Hide everything but the outermost modules; where that is so, show everything."""
        if self.flat:
            return
        least = self._outermost
        row = self._row()
        folded = self._open == least
        self._unfolded = frozenset(self.tree.parents()) if folded else least
        self._rows = None
        if row is not None:
            in_sight = self.tree.depth if folded else {row.name for row in self.rows}
            self._chosen = next(name for name in [row.name, *self.tree.lineage(row.name)] if name in in_sight)

    def _row(self) -> Row | None:
        return self.rows[self.place] if self.rows else None

    def _choose_place(self, place: int) -> None:
        if self.rows:
            self._place = min(max(place, 0), len(self.rows) - 1)
            self._chosen = self.rows[self._place].name

    def _start_anew(self) -> None:
        self._order.forget()
        self._rows = None

    # Order

    def _hold(self) -> None:
        value = None if self.sort == BY_MODEL else find(self.sort).value
        if value is not None:
            self._order.hold({name: value(measure) for name, measure in self.measures.items()})

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """names: in the order of the model."""
        return list(names) if self.sort == BY_MODEL else self._order.sort(names)

    def _matching(self) -> Iterator[str]:
        words = self.words.lower()
        return (name for name, layer in self.layers.items() if words in name.lower() or words in layer.type.lower())

    def _flat_rows(self) -> Iterator[Row]:
        for name in self._in_order(self._matching()):
            yield Row(name, 0, None)

    def _tree_rows(self) -> Iterator[Row]:
        shown = None
        if self.words:
            found = list(self._matching())
            shown = {*found, *(outer for name in found for outer in self.tree.lineage(name))}
        todo = self._in_order(self.tree.roots)[::-1]
        while todo:
            name = todo.pop()
            if shown is not None and name not in shown:
                continue
            inside = self.tree.children(name)
            if shown is not None:
                inside = [child for child in inside if child in shown]
            unfolded = bool(inside) and (shown is not None or name in self._open)
            yield Row(name, self.tree.depth[name], unfolded if inside else None)
            if unfolded:
                todo += reversed(self._in_order(inside))

    # Folding

    @property
    def _open(self) -> frozenset[str]:
        return self._outermost if self._unfolded is None else self._unfolded

    @property
    def _outermost(self) -> frozenset[str]:
        """What is open when all is folded: an only root, for one row is no list."""
        return frozenset(self.tree.roots) if len(self.tree.roots) == 1 else frozenset()

    def _unfold(self, names: Iterable[str]) -> None:
        self._unfolded = self._open | set(names)
        self._rows = None

    def _hottest_path(self) -> Iterator[str]:
        """The modules that take the most, from the root inwards: what the tree shows before its user says otherwise."""
        inside = self.tree.roots
        while inside:
            hottest = max(inside, key=lambda name: self.together[name].total_s or 0.0)
            yield hottest
            inside = self.tree.children(hottest)
