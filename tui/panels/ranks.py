"""The processes of the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View


class RanksPanel(Panel):
    """The processes of the job."""

    KEY: ClassVar[str] = "5"
    TITLE: ClassVar[str] = "ranks"
    LEAST: ClassVar[int] = 3

    def draw(self, view: View) -> Sequence[Text]:
        return [Text("not drawn yet", "quiet")]
