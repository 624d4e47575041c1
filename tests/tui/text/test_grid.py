"""Labels and numbers in columns, and texts that flow."""

from __future__ import annotations

from rich.text import Text

from torchtop.tui.text.grid import Cell, flow, grid


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def test_a_number_does_not_move_its_neighbours() -> None:
    cells = [Cell("median", "1.23 s"), Cell("p95", "45.6 ms"), Cell("samples/s", "9.38k")]
    assert plain(grid(cells, 49)) == ["median   1.23 s  p95     45.6 ms  samples/s 9.38k"]
    assert plain(grid(cells, 48)) == ["median   1.23 s  p95     45.6 ms", "samples/s 9.38k"]
    assert plain(grid(cells, 10)) == ["median   1.23 s", "p95     45.6 ms", "samples/s 9.38k"]


def test_a_label_gives_way_to_its_value() -> None:
    assert plain(grid([Cell("a long label", "not finite")], 15)) == ["a lo…not finite"]
    assert plain(grid([Cell("name", "a value of 16 ch")], 15)) == ["a value of 16 ch"]


def test_flow() -> None:
    texts = [Text("one"), Text("two"), Text("three")]
    assert plain(flow(texts, 8)) == ["one  two", "three"]
    assert plain(flow(texts, 7)) == ["one", "two", "three"]
    assert plain(flow(texts, 4)) == ["one", "two", "thr…"]
    assert flow([], 4) == []
