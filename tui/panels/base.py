"""What all panels share: a title line, lines of text below it, and a redraw of what changed only.

Textual repaints a whole widget when its content changes; over a thin line that is most of the bytes. Here only the
columns that differ are marked, and a text that stays the same sends nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from torchtop.tui.drawing import Pen
from torchtop.tui.view import View

RULE = "─"
_NARROWEST = 20  # columns: less is met for a moment only, while the terminal changes its size


class Lines(Widget):
    """Lines of styled text that are painted only where they differ from what is on screen."""

    def __init__(self, pen: Pen, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pen = pen
        self._strips: list[Strip] = []
        self._texts: list[Text] = []

    def put(self, lines: Sequence[Text]) -> None:
        """Show these lines; what is beyond the widget's height is not seen."""
        strips = [self._pen.strip(line) for line in lines]
        width = self.size.width
        for y in range(max(len(strips), len(self._strips))):
            old = self._strips[y] if y < len(self._strips) else Strip.blank(0)
            new = strips[y] if y < len(strips) else Strip.blank(0)
            span = different(old, new, width)
            if span is not None and y < self.size.height:
                self.refresh(Region(span[0], y, span[1] - span[0], 1))
        self._strips, self._texts = strips, list(lines)

    def repaint(self) -> None:
        """The same lines with the colours of now."""
        self._strips = [self._pen.strip(line) for line in self._texts]
        self.refresh()

    def render_line(self, y: int) -> Strip:
        if y >= len(self._strips):
            return Strip.blank(self.size.width, self._pen.plain)
        return self._strips[y].adjust_cell_length(self.size.width, self._pen.plain)


class Panel(Lines):
    """A titled part of the screen. `draw` is pure: the same view and the same choices give the same text."""

    KEY: ClassVar[str]
    TITLE: ClassVar[str]
    LEAST: ClassVar[int] = 3
    """Rows that it needs, its title included, to be worth its place."""

    can_focus = True

    def __init__(self, pen: Pen) -> None:
        super().__init__(pen, id=self.TITLE)
        self.view: View | None = None

    @abstractmethod
    def draw(self, view: View) -> Sequence[Text]:
        """At most `view.height` lines of at most `view.width` columns."""

    def wants(self, view: View) -> int:
        """Rows that it could fill, its title included."""
        return self.LEAST

    def heading(self, view: View) -> str:
        """What stands at the right end of the title line."""
        return ""

    def show(self, view: View) -> None:
        """Draw what the view says."""
        self.view = view
        self.redraw()

    def redraw(self) -> None:
        """Draw again what was shown last, with the choices of now."""
        if self.view is None or self.size.width < _NARROWEST or not self.size.height:
            return
        view = self.view._replace(width=self.size.width, height=self.size.height - 1)
        self.put([title_line(self.KEY, self.TITLE, self.heading(view), view.width, self.has_focus), *self.draw(view)])

    def watch_has_focus(self, value: bool) -> None:
        # Not on_focus: Textual calls that before `has_focus` is true.
        super().watch_has_focus(value)
        self.redraw()

    def on_resize(self) -> None:
        self._strips = []
        self.redraw()


def title_line(key: str, title: str, heading: str, width: int, chosen: bool) -> Text:
    """`─1 steps───────heading─`, in `width` columns; a chosen one says so without colour, too."""
    left = f" {title} "
    right = f" {heading} " if heading else ""
    mark = "▶" if chosen else RULE
    room = width - 2 - cell_len(left) - 1
    if cell_len(right) > room:
        right = ""
    fill = RULE * (room - cell_len(right))
    style = "chosen" if chosen else "title"
    return Text.assemble(
        (mark, "chosen" if chosen else "rule"),
        (key, "cap"),
        (left, style),
        (fill, "rule"),
        (right, "quiet"),
        (RULE, "rule"),
    )


def different(old: Strip, new: Strip, width: int) -> tuple[int, int] | None:
    """(first column, column after the last) in which two lines differ within `width`; None when they do not."""
    if old == new:
        return None
    before, after = _cells(old, width), _cells(new, width)
    first = next((x for x in range(width) if before[x] != after[x]), None)
    if first is None:
        return None
    last = next(x for x in range(width - 1, -1, -1) if before[x] != after[x])
    return first, last + 1


def _cells(strip: Strip, width: int) -> list[tuple[str, object]]:
    """What each column shows. A letter two columns wide fills both."""
    cells: list[tuple[str, object]] = []
    for text, style, _ in strip:
        for letter in text:
            cells += [(letter, style)] * cell_len(letter)
    cells += [(" ", None)] * (width - len(cells))
    return cells
