"""Sorting, filtering, folding, and the chosen row through all of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tui.layers.layer_rows import STEP_S, layer
from torchtop.snapshot import Layer
from torchtop.tui.layers.steady import TURNS
from torchtop.tui.layers.table import LayerTable

MODEL = (
    layer("", 0.001, 0.03),
    layer("stem", 0.002),
    layer("blocks.0", 0.001, 0.01, type="Block"),
    layer("blocks.0.mlp", 0.006),
    layer("blocks.0.norm", 0.004, type="LayerNorm"),
    layer("blocks.1", 0.001, 0.014, type="Block"),
    layer("blocks.1.mlp", 0.0141),
    layer("blocks.1.norm", 0.003, type="LayerNorm"),
    layer("head", 0.005),
)


@pytest.fixture
def table() -> LayerTable:
    made = LayerTable()
    made.take(MODEL, STEP_S)
    return made


def names(table: LayerTable) -> list[str]:
    return [row.name for row in table.rows]


def moved(**seconds: float) -> list[Layer]:
    """The model with other times, by the name with dots as underscores."""
    return [
        layer(one.name, seconds.get(one.name.replace(".", "_"), one.self_forward_s), type=one.type) for one in MODEL
    ]


def test_it_begins_as_a_list_by_share(table: LayerTable) -> None:
    assert names(table)[:4] == ["blocks.1.mlp", "blocks.0.mlp", "head", "blocks.0.norm"]
    assert set(names(table)) == {one.name for one in MODEL}
    assert table.chosen == "blocks.1.mlp"


def test_the_tree_begins_open_along_the_hottest_path(table: LayerTable) -> None:
    table.turn()
    assert [(row.name, row.depth, row.open) for row in table.rows] == [
        ("", 0, True),
        ("blocks", 1, True),
        ("blocks.1", 2, True),
        ("blocks.1.mlp", 3, None),
        ("blocks.1.norm", 3, None),
        ("blocks.0", 2, False),
        ("head", 1, None),
        ("stem", 1, None),
    ]


def test_what_is_chosen_stays_so_when_rows_change_places(table: LayerTable) -> None:
    table.move(2)
    assert table.chosen == "head"
    table.take(moved(head=0.0004), STEP_S)
    assert table.chosen == "head"
    assert table.place == len(MODEL) - 1
    table.sort_by("name")
    assert (table.chosen, table.place) == ("head", len(MODEL) - 1)
    table.turn()
    assert table.chosen == "head"


def test_the_first_row_is_chosen_until_a_key_says_otherwise(table: LayerTable) -> None:
    table.take(moved(head=0.05), STEP_S)
    assert (table.chosen, table.place) == ("head", 0)


def test_where_the_chosen_one_is_gone_its_neighbour_is(table: LayerTable) -> None:
    table.move(2)
    table.take([one for one in MODEL if one.name != "head"], STEP_S)
    assert (table.chosen, table.place) == ("blocks.0.norm", 2)
    table.take(MODEL, STEP_S)
    assert table.chosen == "head"


def test_each_way_to_sort(table: LayerTable) -> None:
    table.sort_by("name")
    assert names(table) == [one.name for one in MODEL]
    table.sort_by("total")
    assert names(table)[:3] == ["", "blocks.1", "blocks.1.mlp"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("norm", ["blocks.0.norm", "blocks.1.norm"]),
        ("LAYERN", ["blocks.0.norm", "blocks.1.norm"]),
        ("1.m", ["blocks.1.mlp"]),
        ("x", []),
    ],
)
def test_the_filter_looks_into_names_and_types(table: LayerTable, words: str, found: list[str]) -> None:
    table.search(words)
    assert names(table) == found
    assert table.matches == len(found)
    assert table.chosen == (found[0] if found else None)


def test_the_filtered_tree_shows_what_is_around(table: LayerTable) -> None:
    table.turn()
    table.search("norm")
    assert names(table) == ["", "blocks", "blocks.1", "blocks.1.norm", "blocks.0", "blocks.0.norm"]


def test_folding(table: LayerTable) -> None:
    table.turn()
    table.choose("blocks.1.norm")
    table.fold()
    assert table.chosen == "blocks.1"
    table.fold()
    assert "blocks.1.norm" not in names(table)
    table.unfold()
    assert "blocks.1.norm" in names(table)
    table.unfold()
    assert table.chosen == "blocks.1.mlp"


def test_folding_all_and_unfolding_all(table: LayerTable) -> None:
    table.turn()
    table.choose("blocks.1.norm")
    table.fold_all()
    assert names(table) == ["", "blocks", "head", "stem"]
    assert table.chosen == "blocks"
    table.fold_all()
    assert set(names(table)) == {one.name for one in MODEL} | {"blocks"}


def test_a_user_may_fold_before_there_are_times() -> None:
    table = LayerTable()
    table.turn()
    table.take([layer(one.name) for one in MODEL], None)
    assert names(table) == ["", "stem", "blocks", "head"]
    table.choose("blocks")
    table.unfold()
    table.take(MODEL, STEP_S)
    assert [row.name for row in table.rows if row.depth == 2] == ["blocks.1", "blocks.0"]
    assert table.chosen == "blocks"


def test_from_the_list_to_the_tree_what_was_chosen_stays_in_sight(table: LayerTable) -> None:
    table.choose("blocks.0.norm")
    table.turn()
    assert table.chosen == "blocks.0.norm"


def test_rows_scroll_only_as_far_as_they_must(table: LayerTable) -> None:
    first = table.window(3)
    table.move(2)
    assert table.window(3) == first
    table.move(1)
    assert table.window(3) == table.rows[1:4]
    table.move(-1)
    assert table.window(3) == table.rows[1:4]
    table.to_end(True)
    assert table.window(3) == table.rows[-3:]
    table.to_end(False)
    assert table.window(3) == first


def test_every_row_is_written_anew_in_its_turn(table: LayerTable) -> None:
    new = [replace(one, self_forward_s=1.05 * (one.self_forward_s or 0.0)) for one in MODEL]
    changed = []
    for _ in range(TURNS):
        before = dict(table.layers)
        table.take(new, STEP_S)
        changed.append([name for name in before if table.layers[name] is not before[name]])
    assert max(len(some) for some in changed) <= len(MODEL) // TURNS + 1
    assert sorted(name for some in changed for name in some) == sorted(one.name for one in MODEL)


def test_news_does_not_wait_for_its_turn(table: LayerTable) -> None:
    table.take(moved(head=0.006, stem=0.003), STEP_S)
    assert table.layers["head"].self_forward_s == 0.006
    assert table.layers["stem"].self_forward_s == 0.003


def test_nothing_to_show() -> None:
    table = LayerTable()
    for act in (table.fold, table.unfold, table.fold_all, table.turn):
        act()
        table.move(1)
        assert (table.rows, table.chosen, table.place) == ([], None, 0)
