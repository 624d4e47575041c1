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

    def __init__(self, pen: Pen, snapshot: Snapshot) -> None:
        super().__init__()
        self._pen = pen
        self._snapshot = snapshot

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Lines(self._pen)

    def on_mount(self) -> None:
        self.query_one("#page").focus()

    def on_resize(self) -> None:
        width = min(max(self.size.width - _SCROLL_BAR, NARROWEST), WIDEST)
        lines = summary(self._snapshot, width).split("\n", allow_blank=True)
        text = self.query_one(Lines)
        text.styles.height = len(lines)
        text.put(list(lines))
