"""The main screen: all panels of one job."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.screen import Screen

from torchtop.snapshot import Snapshot
from torchtop.tui.arrange import SMALLEST, Need, share_out
from torchtop.tui.drawing import Pen
from torchtop.tui.keys import ADVICE, EVERYWHERE, LAYERS, WATCHING, bindings, table
from torchtop.tui.lines import job_line, key_line, state_line
from torchtop.tui.panels.advice import AdvicePanel
from torchtop.tui.panels.base import Lines, Panel
from torchtop.tui.panels.devices import DevicesPanel
from torchtop.tui.panels.journal import JournalPanel
from torchtop.tui.panels.layers import LayersPanel
from torchtop.tui.panels.memory import MemoryPanel
from torchtop.tui.panels.ranks import RanksPanel
from torchtop.tui.panels.steps import StepsPanel
from torchtop.tui.state import stopped
from torchtop.tui.text.units import duration
from torchtop.tui.view import View
from torchtop.tui.watching import Rules


class WatchScreen(Screen[None]):
    """Draws the newest snapshot. What is done with it (stop, look closer) is the app's."""

    BINDINGS = bindings(WATCHING)

    def __init__(self, pen: Pen, read_only: bool, rules: Rules | None = None) -> None:
        super().__init__()
        self._pen = pen
        self._read_only = read_only
        self._newest: Snapshot | None = None
        self._drawn: Snapshot | None = None
        self._heights: list[int] = []
        self.pid: int | None = None
        self.paused = False
        self.zoomed: Panel | None = None
        self._said: tuple[str, ...] = ()
        self.layer_table = LayersPanel(pen)
        self.advice = AdvicePanel(pen, rules)
        self.left: tuple[Panel, ...] = (StepsPanel(pen), self.layer_table)
        self.right: tuple[Panel, ...] = (
            DevicesPanel(pen),
            MemoryPanel(pen),
            RanksPanel(pen),
            self.advice,
            JournalPanel(pen),
        )

    @property
    def panels(self) -> list[Panel]:
        """In the order of their keys."""
        return sorted([*self.left, *self.right], key=lambda panel: panel.KEY)

    def compose(self) -> ComposeResult:
        yield Lines(self._pen, id="top")
        with Horizontal(id="columns"):
            with Vertical(id="left"):
                yield from self.left
            with Vertical(id="right"):
                yield from self.right
        yield Lines(self._pen, id="small")
        yield Lines(self._pen, id="bottom")

    def on_mount(self) -> None:
        self.set_focus(self.layer_table)
        self.query_one("#top", Lines).put([Text(" torchtop: attaching…", "strong")])

    # What is shown

    def take(self, snapshot: Snapshot) -> None:
        """Draw a snapshot, or keep it until the picture may move again."""
        self._newest = snapshot
        if self.paused or (stopped(snapshot) and self._drawn is not None and stopped(self._drawn)):
            return
        self._show(snapshot)

    def tell(self, words: tuple[str, ...]) -> None:
        """What the app has to say: that it records, what a key did, why the watch is over."""
        self._said = words
        if self.is_attached:
            self._frame()

    @property
    def drawn(self) -> Snapshot | None:
        """The snapshot on screen."""
        return self._drawn

    def redraw(self) -> None:
        """Everything again, from what is on screen."""
        if self._drawn is not None:
            self._show(self._drawn)

    def _show(self, snapshot: Snapshot) -> None:
        self._drawn = snapshot
        if not self._is_small:
            self._arrange(snapshot)
            view = self._view(snapshot)
            for panel in [self.zoomed] if self.zoomed is not None else self.panels:
                panel.show(view)
        self._frame()

    @property
    def _is_small(self) -> bool:
        return self.size.width < SMALLEST[0] or self.size.height < SMALLEST[1]

    def _frame(self) -> None:
        """The lines around the panels, and the sentence in place of them where there is too little room."""
        width, height = self.size
        self.set_class(self._is_small, "-small")
        snapshot = self._drawn
        focused = self.focused
        places = {self.layer_table: LAYERS, self.advice: ADVICE}
        where = places.get(focused) if isinstance(focused, Panel) else None
        keys = table(where, self._read_only) if where is not None else ()
        self.query_one("#bottom", Lines).put(
            [key_line((*keys, *table(WATCHING, self._read_only), *table(EVERYWHERE, self._read_only)), width)]
        )
        if self._is_small:
            needs = f"torchtop needs {SMALLEST[0]}x{SMALLEST[1]}, this is {width}x{height}"
            now = f"step {duration(snapshot.steps.median_s)}" if snapshot is not None else ""
            self.query_one("#small", Lines).put([Text(needs, "warn"), Text(now), Text("q quits", "quiet")])
        elif snapshot is not None:
            lines = [job_line(snapshot, width), state_line(snapshot, width, self._flags())]
            self.query_one("#top", Lines).put(lines)

    def _flags(self) -> tuple[str, ...]:
        found = ("paused",) if self.paused else ()
        return found + (("read-only",) if self._read_only else ()) + self._said

    def _view(self, snapshot: Snapshot) -> View:
        return View(snapshot, self.size.width, self.size.height, self.zoomed is not None, self.pid)

    def _arrange(self, snapshot: Snapshot) -> None:
        """Give each panel its rows; only when they change, for that paints everything anew."""
        if self.zoomed is not None:
            return
        view = self._view(snapshot)
        rows = self.size.height - 3
        heights: list[int] = []
        for column in (self.left, self.right):
            heights += share_out(rows, [Need(panel.LEAST, panel.wants(view)) for panel in column])
        if heights != self._heights:
            self._heights = heights
            for panel, height in zip([*self.left, *self.right], heights, strict=True):
                panel.styles.height = height
                panel.display = height > 0

    @on(Resize)
    def _resized(self) -> None:
        self._heights = []
        self.redraw()
        self._frame()

    # Keys

    def action_panel(self, key: str) -> None:
        panel = next(panel for panel in self.panels if panel.KEY == key)
        if self.focused is panel:
            self._zoom(None if self.zoomed is panel else panel)
        else:
            self._zoom(panel if self.zoomed is not None or not panel.display else None)
            self.set_focus(panel)

    def action_next_panel(self) -> None:
        self._step(1)

    def action_previous_panel(self) -> None:
        self._step(-1)

    def _step(self, by: int) -> None:
        shown = [panel for panel in self.panels if panel.display or self.zoomed is not None]
        at = next((index for index, panel in enumerate(shown) if panel is self.focused), -by)
        panel = shown[(at + by) % len(shown)]
        if self.zoomed is not None:
            self._zoom(panel)
        self.set_focus(panel)

    def action_zoom(self) -> None:
        if isinstance(self.focused, Panel):
            self._zoom(None if self.zoomed is self.focused else self.focused)

    def action_back(self) -> None:
        if self.layer_table.back():
            return
        self._zoom(None)

    def _zoom(self, panel: Panel | None) -> None:
        if panel is self.zoomed:
            return
        self.zoomed = panel
        self.set_class(panel is not None, "-zoomed")
        self.query_one("#left").set_class(panel is not None and panel not in self.left, "-away")
        self.query_one("#right").set_class(panel is not None and panel not in self.right, "-away")
        for other in self.panels:
            other.display = panel is None or other is panel
            other.styles.height = "1fr" if panel is not None else other.styles.height
        self._heights = []
        self.redraw()

    def action_pause(self) -> None:
        self.paused = not self.paused
        if not self.paused and self._newest is not None:
            self._show(self._newest)
        else:
            self._frame()

    def action_next_rank(self) -> None:
        self._look_at(1)

    def action_previous_rank(self) -> None:
        self._look_at(-1)

    def _look_at(self, by: int) -> None:
        if self._drawn is None:
            return
        ranks = [rank for rank in self._drawn.job.ranks if rank.stage != "replaced"]
        shown = self._view(self._drawn).shown_rank
        at = next((index for index, rank in enumerate(ranks) if shown is not None and rank.pid == shown.pid), 0)
        if len(ranks) > 1:
            self.pid = ranks[(at + by) % len(ranks)].pid
            self.app.look()  # type: ignore[attr-defined]

    def on_descendant_focus(self, _: Any) -> None:
        self._frame()
