"""GPUs, or the CPU where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.tui.panels.base import Panel
from torchtop.tui.view import View


class DevicesPanel(Panel):
    """GPUs, or the CPU where there is none."""

    KEY: ClassVar[str] = "1"
    TITLE: ClassVar[str] = "devices"
    LEAST: ClassVar[int] = 3

    def draw(self, view: View) -> Sequence[Text]:
        return [Text("not drawn yet", "quiet")]
