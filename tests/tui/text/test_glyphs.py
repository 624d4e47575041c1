"""Bars, curves and cut text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from torchtop.tui.text import glyphs


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "    "),
        (0.0, "    "),
        (1e-9, "▏   "),
        (0.5, "██  "),
        (0.53125, "██▏ "),
        (1.0, "████"),
        (1.7, "████"),
    ],
)
def test_bar(share: float | None, text: str) -> None:
    assert glyphs.bar(share, 4) == text


@pytest.mark.parametrize(
    ("text", "head", "tail"),
    [
        ("stem", "stem  ", "stem  "),
        ("blocks", "blocks", "blocks"),
        ("blocks.3.qkv", "block…", "…3.qkv"),
        ("模型模型", "模型 …", "…模型 "),
        ("a\x1b[2J", "a?[2J ", "a?[2J "),
    ],
)
def test_fitting_text_in_columns(text: str, head: str, tail: str) -> None:
    assert (glyphs.head(text, 6), glyphs.tail(text, 6)) == (head, tail)
    assert cell_len(head) == cell_len(tail) == 6


@pytest.mark.parametrize(
    ("values", "width", "height", "top", "rows"),
    [
        ([], 3, 1, None, ["   "]),
        ([1.0, 2.0], 4, 1, None, ["  ▄█"]),
        ([1.0, None, 2.0, 0.0], 3, 1, None, [" █▁"]),
        ([0.0, 0.0], 2, 1, None, ["▁▁"]),
        ([1.0, 0.5], 2, 2, 1.0, ["█ ", "██"]),
        ([3.0], 1, 1, 1.0, ["█"]),
    ],
)
def test_a_curve(values: Sequence[float | None], width: int, height: int, top: float | None, rows: list[str]) -> None:
    assert glyphs.curve(values, width, height, top) == rows
