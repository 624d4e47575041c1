"""From texts with kinds of our own ("warn", "bar") to strips with the colours of the theme."""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from torchtop.tui.themes import text_styles

PLAIN = Style()  # Textual's filter for NO_COLOR breaks on a segment that has none


class Pen:
    """Knows the colours of now."""

    def __init__(self) -> None:
        self._console = Console(width=1000, color_system="truecolor", force_terminal=True, legacy_windows=False)

    def dip(self, variables: dict[str, str]) -> None:
        """Take the colours of a theme."""
        self._console.push_theme(text_styles(variables), inherit=False)

    def strip(self, line: Text) -> Strip:
        """One line as Textual paints it."""
        segments = (segment for segment in line.render(self._console) if segment.text != "\n")
        return Strip(Segment(text, style or PLAIN) for text, style, _ in segments)
