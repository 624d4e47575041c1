"""From texts with kinds of our own ("warn", "bar") to strips with the colours of the theme."""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from torchtop.tui.themes import plain_style, text_styles


class Pen:
    """Knows the colours of now.

    plain: of text that is of no kind, and of empty cells. Everything has a background, or it would be the terminal's.
    """

    def __init__(self) -> None:
        self.plain = Style()
        self._console = Console()

    def dip(self, variables: dict[str, str]) -> None:
        """Take the colours of a theme."""
        self.plain = plain_style(variables)
        self._console = Console(
            width=1000,
            color_system="truecolor",
            force_terminal=True,
            legacy_windows=False,
            theme=text_styles(variables),
        )

    def strip(self, line: Text) -> Strip:
        """One line as Textual paints it."""
        # Where a text has no parts of other kinds, rich leaves out the style of the whole.
        whole = self.plain + self._console.get_style(line.style) if line.style else self.plain
        return Strip(
            Segment(text, self.plain + style if style else whole)
            for text, style, _ in line.render(self._console, end="")
        )
