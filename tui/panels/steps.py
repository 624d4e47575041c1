"""Step time, its phases, throughput and loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View


class StepsPanel(Panel):
    """Step time, its phases, throughput and loss."""

    KEY: ClassVar[str] = "2"
    TITLE: ClassVar[str] = "steps"
    LEAST: ClassVar[int] = 3

    def draw(self, view: View) -> Sequence[Text]:
        return [Text("not drawn yet", "quiet")]
