"""The snapshot on screen as one printed page, to read at leisure; new ones do not move it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.base import Lines
from torchtop.tui.summary import NARROWEST, WIDEST, summary

_SCROLL_BAR = 2  # columns


class PageScreen(ModalScreen[None]):
    """Scrolls; any of esc, v, q closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,v,q", "dismiss", "close")]

    def __init__(self, pen: Pen) -> None:
        super().__init__()
        self._pen = pen
        self._snapshot: Snapshot | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Lines(self._pen)

    def show(self, snapshot: Snapshot) -> None:
        """What to put on the page when it is opened next."""
        self._snapshot = snapshot

    def on_screen_resume(self) -> None:
        self.query_one("#page").focus()
        self._fill()

    def on_resize(self) -> None:
        self._fill()

    def _fill(self) -> None:
        if self._snapshot is None:
            return
        width = min(max(self.size.width - _SCROLL_BAR, NARROWEST), WIDEST)
        lines = summary(self._snapshot, width).split("\n", allow_blank=True)
        text = self.query_one(Lines)
        text.styles.height = len(lines)
        text.put(list(lines))
