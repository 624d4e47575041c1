"""Modules and their times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View


class LayersPanel(Panel):
    """Modules and their times."""

    KEY: ClassVar[str] = "3"
    TITLE: ClassVar[str] = "layers"
    LEAST: ClassVar[int] = 3

    def draw(self, view: View) -> Sequence[Text]:
        return [Text("not drawn yet", "quiet")]

    def back(self) -> bool:
        """One step back inside the panel; False when there is none."""
        return False
