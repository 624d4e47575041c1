"""Modules and their times: a list or a tree of all, and one of them closely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import BindingType
from textual.events import Key, Paste

from torchtop.snapshot import Layer, Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.keys import KEYS, LAYERS, bindings
from torchtop.tui.layers import page
from torchtop.tui.layers.columns import Fit, find, fit
from torchtop.tui.layers.lines import AGAIN, branch, row, sampled, sentence, tail_of, titles, why_none, why_untimed
from torchtop.tui.layers.steady import SteadyOrder
from torchtop.tui.layers.table import LayerTable, Row
from torchtop.tui.layers.tree import around
from torchtop.tui.messages import Looked
from torchtop.tui.panels.base import Panel
from torchtop.tui.text.glyphs import tail
from torchtop.tui.text.plain import printable
from torchtop.tui.view import View, rank_name

_NOTES_FROM = 8  # rows of the panel from which there is room for a note
_FILTER = next(key.keys for key in KEYS if key.id == "filter").split(",")
_OF_LIST = ("sort", "flat", "fold_all")  # keys that mean nothing to one layer


class LayersPanel(Panel):
    """Modules and their times."""

    KEY: ClassVar[str] = "3"
    TITLE: ClassVar[str] = "layers"
    LEAST: ClassVar[int] = 5
    BINDINGS: ClassVar[list[BindingType]] = bindings(LAYERS)

    def __init__(self, pen: Pen) -> None:
        super().__init__(pen)
        self._table = LayerTable()
        self._taken: Snapshot | None = None
        self._pid: int | None = None
        self._typing = False
        self._opened: str | None = None
        self._inside_order = SteadyOrder()
        self._inside_chosen: str | None = None
        self._zoomed_for_it = False

    # What is shown

    def draw(self, view: View) -> Sequence[Text]:
        self._take(view)
        if self._opened is not None and self._opened in self._table.tree.depth:
            return page.page(view, self._subject(view, self._opened))
        if not self._table.layers:
            return sentence(why_none(view), view.width)[: view.height]
        if self._opened is not None:
            return sentence(f"{self._opened} is not among the layers now", view.width)[: view.height]
        return self._list(view)

    def wants(self, view: View) -> int:
        self._take(view)
        return 2 + max(len(self._table.rows), 1) + len(self._notes(view))

    def heading(self, view: View) -> str:
        self._take(view)
        if self._opened is not None:
            return page.heading(view)
        room = view.width - cell_len(self.TITLE) - 7
        words = self._table.words
        parts = []
        if self._typing or words:
            shown = tail_of(words, max(room - 14, 1)) + ("_" if self._typing else "")
            parts.append(f"/{shown} {self._table.matches} of {len(self._table.layers)}")
        if not self._table.layers:
            return parts[0] if parts else ""
        ranks = view.snapshot.job.ranks
        shown_rank = view.shown_rank
        if shown_rank is not None and len(ranks) > 1:
            parts.append(rank_name(shown_rank))
        if not parts or len(ranks) > 1 and not words and not self._typing:
            parts.append(f"{len(self._table.layers)} layers")
        sort = self._table.sort
        if sort not in self._fit(view.width).sorts:
            parts.append(f"by {find(sort).title}")
        parts.append("without children" if self._table.flat else "with children")
        if len(ranks) == 1 and view.snapshot.layers_left_out:
            parts.append(f"{view.snapshot.layers_left_out} more left out")
        parts.append(f"{sampled(view)} sampled steps")
        while len(parts) > 1 and cell_len(", ".join(parts)) > room:
            parts.pop()
        return ", ".join(parts)

    def _take(self, view: View) -> None:
        """The layers of the rank that is looked at."""
        rank = view.shown_rank
        pid = rank.pid if rank is not None else None
        if view.snapshot is self._taken and pid == self._pid:
            return
        if pid != self._pid:
            self._table.forget()
        self._taken, self._pid = view.snapshot, pid
        step_s = next((one.sampled_mean_s for one in view.snapshot.steps.by_rank if one.pid == pid), None)
        self._table.take(_layers(view), step_s or view.snapshot.steps.sampled_mean_s)

    def _list(self, view: View) -> list[Text]:
        notes = self._notes(view) if view.height >= _NOTES_FROM else []
        table, room = self._table, self._fit(view.width)
        rows = table.window(max(view.height - 1 - len(notes), 1))
        largest = max((one.share for one in table.measures.values() if one.share is not None), default=0.0)
        chosen = table.chosen if self.has_focus else None
        lines = [titles(room, table.sort)]
        for one in rows:
            name = self._label(one, room)
            lines.append(row(name, table.measures[one.name], room, largest, one.name == chosen))
        if not rows:
            lines += sentence(f"no name and no type has {table.words!r} in it; esc shows all", view.width)
        return [*lines, *notes][: view.height]

    def _label(self, one: Row, room: Fit) -> str:
        columns = {column.id for column in room.columns}
        measure = self._table.measures[one.name]
        note = AGAIN if measure.recompute_s is not None and "recompute" not in columns else ""
        if self._table.flat:
            return tail(f"{one.name or '(root)'}{note}", room.name)
        if one.name in self._table.tree.holders and "type" not in columns:
            note += " (sum)"
        return branch(one.name, one.depth, one.open, note, room.name)

    def _notes(self, view: View) -> list[Text]:
        table = self._table
        notes = []
        missing = why_untimed(view, list(table.layers.values())) if table.layers else None
        if missing is not None:
            notes.append(f"— {missing}")
        if self._table.recomputes and not any(column.id == "recompute" for column in self._fit(view.width).columns):
            notes.append(f"{AGAIN} its forward is done again in backward")
        return [line for note in notes for line in sentence(note, view.width)]

    def _fit(self, width: int) -> Fit:
        tree, flat = self._table.tree, self._table.flat
        left_out = ["total" if not flat else "self"]
        if not self._table.recomputes:
            left_out.append("recompute")
        longest = tree.longest_name if flat else tree.longest_label + tree.deepest + 1
        return fit(width, longest, left_out)

    # One layer

    def _subject(self, view: View, name: str) -> page.Subject:
        together = self._table.together
        inside = self._inside(name)
        chosen = inside.index(self._inside_chosen) if self._inside_chosen in inside else 0
        newest = {layer.name: layer for layer in _layers(view)}
        layer = newest.get(name)
        return page.Subject(
            name,
            layer,
            together[name],
            [
                other
                for other in view.snapshot.layers
                if layer is not None and other.name == name and other.rank != layer.rank
            ],
            [(child, together[child]) for child in inside],
            chosen,
        )

    def _inside(self, name: str) -> list[str]:
        """Names of what it contains, by what they take with all inside."""
        together, children = self._table.together, self._table.tree.children(name)
        self._inside_order.hold({child: together[child].total_s for child in children})
        return self._inside_order.sort(children)

    def _look_at(self, name: str | None) -> None:
        self._opened = name
        self._inside_chosen = None
        self._inside_order.forget()
        self.post_message(Looked(name if name in self._table.layers else None))
        self.redraw()

    def _full_screen(self) -> None:
        """Let the page fill the screen, or the list have its old place; the screen knows how."""
        self.call_later(self.run_action, "screen.zoom")

    def back(self) -> bool:
        """One step back inside the panel; False when there is none."""
        if not self.has_focus:
            return False
        if self._typing or (self._opened is None and self._table.words):
            self._typing = False
            self._table.search("")
            self.redraw()
            return True
        return self._close()

    def _close(self) -> bool:
        """From one layer to the list; False where that is shown."""
        if self._opened is None:
            return False
        self._table.choose(self._opened)
        self._look_at(None)
        if self._zoomed_for_it and self.view is not None and self.view.zoomed:
            self._full_screen()
        self._zoomed_for_it = False
        return True

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (self._opened is not None and action in _OF_LIST)

    def action_sort(self) -> None:
        sorts = self._fit(self.size.width).sorts
        at = sorts.index(self._table.sort) if self._table.sort in sorts else -1
        self._table.sort_by(sorts[(at + 1) % len(sorts)])
        self.redraw()

    def action_flat(self) -> None:
        self._table.turn()
        self.redraw()

    def action_filter(self) -> None:
        self._typing = True
        self.redraw()

    def action_up(self) -> None:
        self._move(-1)

    def action_down(self) -> None:
        self._move(1)

    def action_page_up(self) -> None:
        self._move(-max(self.size.height - 3, 1))

    def action_page_down(self) -> None:
        self._move(max(self.size.height - 3, 1))

    def action_first(self) -> None:
        self._move(-len(self._table.layers) - len(self._table.tree.holders))

    def action_last(self) -> None:
        self._move(len(self._table.layers) + len(self._table.tree.holders))

    def action_fold(self) -> None:
        if self._opened is None:
            self._table.fold()
            self.redraw()
        elif (outer := around(self._opened)) is not None:
            self._look_at(outer)

    def action_unfold(self) -> None:
        if self._opened is None:
            self._table.unfold()
            self.redraw()

    def action_fold_all(self) -> None:
        self._table.fold_all()
        self.redraw()

    def action_open(self) -> None:
        if self._opened is None:
            if self._table.chosen is None:
                return
            small = self.size.width < page.COLUMNS or self.size.height <= page.ROWS
            if small and self.view is not None and not self.view.zoomed:
                self._zoomed_for_it = True
                self._full_screen()
            self._look_at(self._table.chosen)
            return
        inside = self._inside(self._opened)
        if inside:
            self._look_at(self._inside_chosen if self._inside_chosen in inside else inside[0])

    def _move(self, by: int) -> None:
        if self._opened is None:
            self._table.move(by)
        elif inside := self._inside(self._opened):
            at = inside.index(self._inside_chosen) if self._inside_chosen in inside else 0
            self._inside_chosen = inside[min(max(at + by, 0), len(inside) - 1)]
        self.redraw()

    # The filter. While it is typed letters are letters; cursor keys and those with ctrl keep their meaning.

    async def _on_key(self, event: Key) -> None:
        if event.key in ("tab", "shift+tab", "escape") or not (self._typing or event.key in _FILTER):
            return  # not for the filter; the first of these end it elsewhere
        words = self._table.words
        if not self._typing:
            # As a binding it would take effect only after the keys that are already on their way: `/q` would quit.
            self._close()
            self._typing = True
        elif event.key == "enter":
            self._typing = False
        elif event.key == "backspace":
            self._table.search(words[:-1])
        elif event.key == "ctrl+u":
            self._table.search("")
        elif event.is_printable and event.character is not None:
            self._table.search(words + event.character)
        elif event.key not in ("left", "right"):
            return
        event.stop()
        event.prevent_default()
        self.redraw()

    def on_paste(self, event: Paste) -> None:
        if self._typing:
            self._table.search(self._table.words + printable(event.text.strip()))
            event.stop()
            self.redraw()

    def on_blur(self) -> None:
        self._typing = False


def _layers(view: View) -> list[Layer]:
    """Those of the rank that is looked at; after a change of mind the snapshot still has another's."""
    rank = view.shown_rank
    return [layer for layer in view.snapshot.layers if rank is None or layer.rank == rank.rank]
