"""The list of keys, made from the key table."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from torchtop.tui.drawing import Pen
from torchtop.tui.keys import KEYS, table
from torchtop.tui.panels.base import Lines

_CAP = max(len(key.cap) for key in KEYS)


def help_lines(read_only: bool) -> list[Text]:
    """Every key that works, by the place where it does."""
    found = []
    for where in dict.fromkeys(key.where for key in KEYS):
        found += [Text(""), Text(f" {where}", "title")]
        for key in table(where, read_only):
            found.append(Text.assemble((f"  {key.cap:>{_CAP}}  ", "cap"), (key.help, "number")))
    if read_only:
        found += [Text(""), Text(" read-only: the keys that change anything in the job are taken away", "warn")]
    return [Text(" keys (any of esc, ?, q closes this)", "title"), *found]


class HelpScreen(ModalScreen[None]):
    """Over whatever was on screen."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q", "dismiss", "close")]

    def __init__(self, pen: Pen, read_only: bool) -> None:
        super().__init__()
        self._lines = help_lines(read_only)
        self._pen = pen

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            text = Lines(self._pen)
            text.styles.height = len(self._lines)
            yield text

    def on_screen_resume(self) -> None:
        self.query_one(Lines).put(self._lines)
        self.query_one("#page").focus()
