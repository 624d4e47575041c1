"""What memory is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View


class MemoryPanel(Panel):
    """What memory is made of."""

    KEY: ClassVar[str] = "4"
    TITLE: ClassVar[str] = "memory"
    LEAST: ClassVar[int] = 3

    def draw(self, view: View) -> Sequence[Text]:
        return [Text("not drawn yet", "quiet")]
