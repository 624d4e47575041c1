"""Why numbers are missing, each reason once; and sentences in fewer rows than they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from torchtop.tui.text.glyphs import head
from torchtop.tui.text.plain import wrapped
from torchtop.tui.text.units import MISSING


def reasons(missing: Iterable[tuple[str, str]], width: int) -> list[Text]:
    """missing: (what, why). `parameters, gradients — no optimizer has stepped since attach`, folded at `width`."""
    said: dict[str, list[str]] = {}
    for what, why in missing:
        said.setdefault(why, []).append(what)
    texts = [f"{', '.join(names)} {MISSING} {why}" for why, names in said.items()]
    return [Text(line, "quiet") for text in texts for line in wrapped("", text, width)]


def within(lines: Sequence[Text], rows: int, width: int) -> list[Text]:
    """The first `rows` lines of text of `width` columns; the last one ends in an ellipsis if there were more."""
    if len(lines) <= rows or rows < 1:
        return list(lines[: max(rows, 0)])
    last = lines[rows - 1]
    rest = " ".join(line.plain.strip() for line in lines[rows:])
    return [*lines[: rows - 1], Text(head(f"{last.plain.rstrip()} {rest}", width), last.style)]
