"""What is written makes the same picture as all that Textual says, and says nothing that the terminal shows anyhow."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from torchtop.tui.difference import Difference

COLUMNS, ROWS = 12, 3
WIDE = "宽"
TOKENS = re.compile(
    r"\x1b\[(?P<row>\d+);(?P<column>\d+)H|\x1b\[(?P<by>\d*)C|\x1b\[(?P<style>[\d;]*)m|(?P<letter>[^\x1b])"
)
STYLES = ("", "1", "1;7;38;5;117", "38;5;188", "48;5;16", "31", "38;2;1;2;3", "4;44")


PAIRS = ("ab", "a ", "  ", "█b", "██", WIDE)  # Textual never writes over one half of a wide letter


class Screen:
    """As much of a terminal as is written to; colours of text begin with 3, those behind it with 4."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, dict[str, str]]] = {}
        self.row = self.column = 0
        self.style: dict[str, str] = {}

    def feed(self, data: str) -> None:
        at = 0
        for token in TOKENS.finditer(data):
            assert token.start() == at, f"not understood: {data[at : token.start()]!r}"
            at = token.end()
            if token["row"]:
                self.row, self.column = int(token["row"]) - 1, int(token["column"]) - 1
            elif token["by"] is not None:
                self.column += int(token["by"] or 1)
            elif token["style"] is not None:
                self.paint(token["style"])
            else:
                for text in (token["letter"], "")[: 1 + (token["letter"] == WIDE)]:
                    self.cells[self.row, self.column] = (text, dict(self.style))
                    self.column += 1

    def paint(self, parameters: str) -> None:
        parts = parameters.split(";") if parameters else ["0"]
        while parts:
            first = parts.pop(0)
            if first == "0":
                self.style.clear()
            elif first in ("38", "48"):
                length = 2 if parts[0] == "5" else 4
                self.style[first[0]] = ";".join([first, *parts[:length]])
                del parts[:length]
            else:
                self.style[first[0] if len(first) == 2 else f"attribute {first}"] = first


@st.composite
def pictures(draw: st.DrawFn) -> str:
    """Lines as Textual writes them: a move, and pieces of text, each with its style and a reset behind it."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        row, column = draw(st.integers(1, ROWS)), draw(st.integers(0, COLUMNS // 2))
        found.append(f"\x1b[{row};{2 * column + 1}H")
        for _ in range(draw(st.integers(1, 3))):
            style, text = draw(st.sampled_from(STYLES)), "".join(draw(st.lists(st.sampled_from(PAIRS), min_size=1)))
            found.append(f"\x1b[{style}m{text}\x1b[0m" if style else text)
    return "".join(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(pictures(), max_size=5))
def test_it_comes_to_the_same_picture(written: list[str]) -> None:
    plain, thin, difference = Screen(), Screen(), Difference()
    for data in written:
        plain.feed(data)
        thin.feed(difference.narrowed(data))
        assert thin.cells == plain.cells


def test_what_the_terminal_shows_is_not_written_again() -> None:
    difference = Difference()
    line = "\x1b[2;1H\x1b[38;5;188mmedian  \x1b[0m\x1b[1;38;5;188m250 ms\x1b[0m"
    assert difference.narrowed(line) != ""
    assert difference.narrowed(line) == ""
    assert difference.narrowed(line.replace("250", "251")) == "\x1b[2;11H\x1b[1;38;5;188m1\x1b[m"


def test_a_cleared_terminal_is_written_again() -> None:
    difference = Difference()
    first = difference.narrowed("\x1b[1;1Habc")
    for cleared in ("\x1b[2J", "\x1b[?1049h"):
        assert difference.narrowed(f"{cleared}\x1b[1;1Habc") == cleared + first
    difference.forget()
    assert difference.narrowed("\x1b[1;1Habc") == first


def test_what_is_not_understood_goes_through_in_its_place() -> None:
    difference = Difference()
    said = "\x1b]22;default\x07\x1b[?2026h\x1b[1;1Ha\x1b[?2026l\x07"
    assert difference.narrowed(said) == said
