"""What holds the job back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View


class AdvicePanel(Panel):
    """What holds the job back."""

    KEY: ClassVar[str] = "6"
    TITLE: ClassVar[str] = "advice"
    LEAST: ClassVar[int] = 3

    def draw(self, view: View) -> Sequence[Text]:
        return [Text("not drawn yet", "quiet")]
