"""One finding on a page of its own: its numbers, its place, and what its rule says of itself. New snapshots do not move it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from torchtop.snapshot import Finding
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.base import Lines
from torchtop.tui.text.findings import in_full
from torchtop.tui.text.plain import wrapped
from torchtop.tui.watching import Rules, Section

WIDEST = 100  # columns: beyond it eyes lose the line
_SCROLL_BAR = 2  # columns


def finding_lines(finding: Finding, text: Sequence[Section], width: int) -> list[Text]:
    """text: what its rule says of itself."""
    lines = [Text(line.text, line.kind) for line in in_full(finding, width)]
    for section in text:
        lines.append(Text(""))
        if section.heading:
            lines.append(Text(section.heading, "title"))
        for paragraph in section.paragraphs:
            lines += [Text(line, "quiet") for line in wrapped("   ", paragraph, width)]
    return [*lines, Text(""), Text("(any of esc, enter, q closes this)", "quiet")]


class FindingScreen(ModalScreen[None]):
    """Scrolls; any of esc, enter, q closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,enter,q", "dismiss", "close")]

    def __init__(self, pen: Pen, rules: Rules | None) -> None:
        super().__init__()
        self._pen = pen
        self._rules = rules
        self._finding: Finding | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Lines(self._pen)

    def show(self, finding: Finding) -> None:
        """What to put on the page when it is opened next."""
        self._finding = finding

    def on_screen_resume(self) -> None:
        page = self.query_one("#page")
        page.focus()
        page.scroll_home(animate=False)
        self._fill()

    def on_resize(self) -> None:
        self._fill()

    def _fill(self) -> None:
        if self._finding is None:
            return
        text = self._rules.text(self._finding.code) if self._rules is not None else ()
        lines = finding_lines(self._finding, text, min(max(self.size.width - _SCROLL_BAR, 1), WIDEST))
        shown = self.query_one(Lines)
        shown.styles.height = len(lines)
        shown.put(lines)
