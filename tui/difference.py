"""What must be written so that a terminal that shows one picture shows another, cell by cell as curses does it.

Textual repaints a changed line from the left edge of its widget, and after each piece of one style it takes back all of
its style: three of four bytes say what the terminal shows anyhow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rich.cells import cell_len

# What Textual writes: moves to a cell, styles, ends of lines, text; the rest is not ours to understand.
_TOKENS = re.compile(
    r"\x1b\[(?P<row>\d+);(?P<column>\d+)H|\x1b\[(?P<style>[\d;:]*)m|(?P<text>[^\x00-\x1f\x7f]+)|(?P<end>[\r\n]+)"
    r"|(?P<other>\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P_^X].*?(?:\x07|\x1b\\)|\x1b.|[\x00-\x1f\x7f])",
    re.DOTALL,
)
_FORGETS = re.compile(r"\x1b\[[0-3]?J|\x1b\[\?(?:47|1047|1049)[hl]|\x1bc")  # clears the screen, or shows another
_BRIDGE = 4  # cells of the same style that are written again rather than jumped over: a jump takes as many bytes

Cell = tuple[str, str]
"""What is in it ('' where the letter before is two wide), and its style: parameters of SGR since the last reset."""


class Difference:
    """Knows what the terminal shows, of what was written through it."""

    def __init__(self) -> None:
        self._shown: dict[int, dict[int, Cell]] = {}
        self._changed: dict[int, dict[int, Cell]] = {}

    def forget(self) -> None:
        """The terminal may show anything now: all that is painted next is written."""
        self._shown.clear()

    def narrowed(self, data: str) -> str:
        """As much of `data` as changes the picture. data: whole sequences; where it begins the style is plain."""
        found: list[str] = []
        row = column = 0
        style = ""
        for token in _TOKENS.finditer(data):
            kind = token.lastgroup
            if kind == "text":
                column = self._write(row, column, token["text"], style)
            elif kind == "style":
                style = _joined(style, token["style"])
            elif kind == "column":
                row, column = int(token["row"]) - 1, int(token["column"]) - 1
            elif kind == "end":
                row, column = row + token["end"].count("\n"), 0
            else:
                found += [*self._flush(), token["other"]]
                if _FORGETS.fullmatch(token["other"]):
                    self.forget()
        found += self._flush()
        return "".join(found)

    def _write(self, row: int, column: int, text: str, style: str) -> int:
        """Note what changes; the column after it."""
        shown, changed = self._shown.setdefault(row, {}), self._changed.setdefault(row, {})
        for letter in text:
            width = 1 if letter < "\u0300" else cell_len(letter)
            if width == 0:
                column -= 1  # it belongs to the letter before
                letter = shown.get(column, (" ", ""))[0] + letter
                width = 1
            for cell in ((letter, style), ("", style))[:width]:
                if shown.get(column) != cell:
                    shown[column] = changed[column] = cell
                column += 1
            if shown.get(column, (" ",))[0] == "":
                del shown[column]  # half of a wide letter is left: terminals differ in what they show there
        return column

    def _flush(self) -> Iterator[str]:
        """Write what has changed, and leave the style plain."""
        now = ""
        for row, cells in self._changed.items():
            at: int | None = None
            shown = self._shown[row]
            for column in sorted(cells):
                if at is not None and at < column:
                    between = [shown.get(c, ("", "?")) for c in range(at, column)]
                    if len(between) <= _BRIDGE and all(text and style == now for text, style in between):
                        yield "".join(text for text, _ in between)
                    else:
                        yield f"\x1b[{column - at}C" if column - at > 1 else "\x1b[C"
                elif at is None:
                    yield f"\x1b[{row + 1};{column + 1}H"
                text, style = cells[column]
                if not text and at != column:
                    continue
                if style != now:
                    yield _change(now, style)
                    now = style
                yield text
                at = column + 1
        self._changed.clear()
        if now:
            yield "\x1b[m"


def _joined(style: str, parameters: str) -> str:
    """The style after another SGR."""
    if parameters in ("", "0"):
        return ""
    if parameters.startswith("0;"):
        return parameters[2:]
    return f"{style};{parameters}" if style else parameters


@lru_cache(maxsize=1024)
def _change(before: str, after: str) -> str:
    """The shortest SGR from one style to another."""
    old, new = _attributes(before), _attributes(after)
    if old.keys() <= new.keys():
        return f"\x1b[{';'.join(value for name, value in new.items() if old.get(name) != value)}m"
    return f"\x1b[0;{after}m" if after else "\x1b[m"


def _attributes(style: str) -> dict[str, str]:
    """Kind of attribute -> parameters that set it. Colours replace one another, anything else is its own kind."""
    found: dict[str, str] = {}
    parts = style.split(";") if style else []
    while parts:
        first = parts.pop(0)
        if first in ("38", "48"):
            count = 2 if parts[:1] == ["5"] else 4
            found[first] = ";".join([first, *parts[:count]])
            parts = parts[count:]
        elif len(first) > 1 and first[:-1] in ("3", "9"):
            found["38"] = first
        elif len(first) > 1 and first[:-1] in ("4", "10"):
            found["48"] = first
        else:
            found[first] = first
    return found
