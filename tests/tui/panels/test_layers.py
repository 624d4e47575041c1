"""The panel: what it draws, and every key of its table."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from textual.events import Key, Paste
from textual.pilot import Pilot

from tests.tui.scenes import attaching, compiled, eight_gpus, healthy, many_layers, outside, two_ranks
from tests.tui.scripted import Scripted, page, rows
from torchtop.snapshot import Snapshot
from torchtop.tui.app import TorchtopApp
from torchtop.tui.drawing import Pen
from torchtop.tui.keys import KEYS, LAYERS
from torchtop.tui.panels.layers import LayersPanel
from torchtop.tui.view import View


def drawn(snapshot: Snapshot, width: int = 49, height: int = 12) -> list[str]:
    return [text.plain for text in LayersPanel(Pen()).draw(View(snapshot, width, height))]


def untimed(snapshot: Snapshot) -> Snapshot:
    """As on a GPU: modules without times."""
    none = dict.fromkeys(("forward_s", "backward_s", "self_forward_s", "self_backward_s", "share"))
    steps = replace(snapshot.steps, phase_reasons={"forward": "only the host's time is known"})
    return replace(snapshot, steps=steps, layers=tuple(replace(layer, **none) for layer in snapshot.layers))


@pytest.mark.parametrize("height", [1, 12])
@pytest.mark.parametrize("width", [30, 49, 125])
@pytest.mark.parametrize("snapshot", [healthy(), untimed(eight_gpus()), compiled(), attaching(), many_layers(300)])
def test_it_fits(snapshot: Snapshot, width: int, height: int) -> None:
    panel = LayersPanel(Pen())
    view = View(snapshot, width, height)
    lines = panel.draw(view)
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width
    assert len(panel.heading(view)) <= width
    assert [line.plain for line in panel.draw(view)] == [line.plain for line in lines], "twice the same"


def test_the_narrow_list_says_where_time_goes() -> None:
    lines = drawn(healthy())
    assert lines[0].split() == ["name", "▼share", "forward", "backward"]
    assert re.fullmatch(r" blocks\.3\.attention ████  9\.7\d % 6\.98 ms  3\.5\d ms", lines[1])
    assert len({line.rindex(" ms") for line in lines[1:]}) == 1, "one column below the other"


@pytest.mark.parametrize(
    ("snapshot", "why"),
    [
        (compiled(), "the model is compiled"),
        (outside(), "no probe in the job, so its modules are not seen: nothing was put into it"),
        (attaching(), "waits for a Python safe point"),
        (replace(healthy(), layers=()), "no step has been sampled yet"),
        (untimed(eight_gpus()), "— only the host's time is known"),
    ],
)
def test_what_is_missing_has_its_reason(snapshot: Snapshot, why: str) -> None:
    assert why in " ".join(" ".join(drawn(snapshot, 75)).split())


def test_a_rank_whose_layers_are_still_to_come() -> None:
    snapshot = two_ranks()
    other = next(rank.pid for rank in snapshot.job.ranks if rank.rank != snapshot.layers[0].rank)
    (line,) = LayersPanel(Pen()).draw(View(snapshot, 75, 12, pid=other))
    assert "come with the next snapshot" in line.plain


def test_recomputation_is_marked_where_it_has_no_column() -> None:
    snapshot = healthy()
    again = [replace(layer, recompute_s=0.002 if layer.name == "head" else None) for layer in snapshot.layers]
    lines = drawn(replace(snapshot, layers=tuple(again)), 49, 60)
    assert [line.split()[0] for line in lines if "*" in line] == ["head*", "*"]
    assert "recompute" in drawn(replace(snapshot, layers=tuple(again)), 100)[0]


@asynccontextmanager
async def watching(
    size: tuple[int, int] = (120, 40), snapshot: Snapshot | None = None
) -> AsyncIterator[tuple[TorchtopApp, Pilot[Any], Scripted]]:
    job = Scripted(snapshot or healthy())
    app = TorchtopApp(job)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot, job


async def press(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


def chosen(app: TorchtopApp) -> str:
    """Name on the row that is marked, below the panel's title."""
    found = [row for row in rows(app) if row.startswith("▶") and not row.startswith("▶3 ")]
    assert len(found) == 1
    return re.split(r"[ *]", found[0][1:].lstrip(" ▾▸"))[0]


def listed(app: TorchtopApp) -> list[str]:
    """Rows of the panel, its title and the titles of its columns first."""
    all_rows = rows(app)
    first = next(place for place, row in enumerate(all_rows) if row.startswith("▶3 "))
    return [row.partition("  ─")[0][:75] for row in all_rows[first:-1]]


async def test_the_chosen_row_moves() -> None:
    async with watching() as (app, pilot, _):
        assert chosen(app) == "blocks.3.attention"
        await press(pilot, "down", "down")
        assert chosen(app) == "blocks.2.attention"
        await press(pilot, "up")
        assert chosen(app) == "blocks.0.attention"
        await press(pilot, "G")
        last = chosen(app)
        assert last in [listed(app)[-1].split()[0].strip("▶")]
        await press(pilot, "g")
        assert chosen(app) == "blocks.3.attention"
        await press(pilot, "pagedown")
        below = chosen(app)
        assert below not in ("blocks.3.attention", last)
        await press(pilot, "pageup")
        assert chosen(app) == "blocks.3.attention"
        await press(pilot, "end")
        assert chosen(app) == last
        await press(pilot, "home")
        assert chosen(app) == "blocks.3.attention"


async def test_sorting_goes_through_the_columns_and_back() -> None:
    async with watching() as (app, pilot, _):
        marked = []
        for _ in range(5):
            await press(pilot, "s")
            marked.append(re.findall(r"▼(\w+)", listed(app)[1])[0])
        assert marked == ["forward", "backward", "total", "name", "share"]
        await press(pilot, "s", "s", "s", "s")
        assert [row.split()[0] for row in listed(app)[2:5]] == ["▶(root)", "bytes", "positions"]


async def test_the_tree_is_folded_and_unfolded() -> None:
    async with watching() as (app, pilot, _):
        await press(pilot, "f")
        assert listed(app)[2].split()[0] in ("▾(root)", "▶▾(root)")
        assert chosen(app) == "(root)"
        await press(pilot, "underscore")
        assert "▸blocks" in listed(app)[3]
        await press(pilot, "down", "right", "right")
        assert chosen(app) in ("0", "1", "2", "3")
        await press(pilot, "left")
        assert chosen(app) == "blocks"
        await press(pilot, "left")
        assert "▸blocks" in listed(app)[3]
        await press(pilot, "underscore")
        assert sum("▸" in row for row in listed(app)[2:]) == 0
        await press(pilot, "f")
        assert not [row for row in listed(app) if "▾" in row]


async def test_letters_of_the_filter_are_no_keys() -> None:
    async with watching() as (app, pilot, _):
        await press(pilot, "slash", "q", "backspace", "Q", "K", "v")
        assert app.is_running
        assert "/QKv_ 4 of 51" in listed(app)[0]
        await press(pilot, "down")
        assert chosen(app) == "blocks.0.attention.qkv"
        await press(pilot, "enter")
        assert "/QKv 4 of 51" in listed(app)[0]
        assert chosen(app) == "blocks.0.attention.qkv"
        await press(pilot, "s")
        assert "▼forward" in listed(app)[1]
        await press(pilot, "slash", "x", "escape")
        assert "51 layers" in listed(app)[0]
        assert chosen(app) == "blocks.0.attention.qkv"
        await press(pilot, "slash", "z", "z", "z")
        assert "no name and no type has 'zzz' in it" in page(app)
        await press(pilot, "ctrl+u", "enter", "escape")
        assert "51 layers" in listed(app)[0]
        await press(pilot, "slash", "m", "tab")
        assert "▶4 memory" in page(app)
        await press(pilot, "3")
        assert "/m 27 of 51" in listed(app)[0], "what is typed elsewhere is none of it"
        await press(pilot, "q")
        await pilot.pause()
        assert not app.is_running


async def test_ctrl_c_quits_while_the_filter_is_typed() -> None:
    async with watching() as (app, pilot, _):
        await pilot.press("slash", "a", "ctrl+c")
        await pilot.pause()
        assert not app.is_running


async def test_keys_that_come_at_once_with_the_filter_are_letters() -> None:
    async with watching() as (app, pilot, _):
        for key, letter in (("slash", "/"), ("q", "q"), ("v", "v")):
            app.post_message(Key(key, letter))  # as when they are pasted: none waits for the one before
        await pilot.pause()
        await pilot.pause()
        assert "/qv_" in listed(app)[0]
        app.post_message(Paste("x\ny"))
        await pilot.pause()
        await pilot.pause()
        assert "/qvx?y_" in listed(app)[0]


async def test_one_layer_and_back() -> None:
    async with watching() as (app, pilot, job):
        await press(pilot, "down", "enter")
        assert "one layer, 132 sampled steps, esc goes back" in listed(app)[0]
        assert listed(app)[1].startswith(" blocks.0.attention  Attention")
        assert job.looked[-1].layer == "blocks.0.attention"
        assert "comes with the next snapshot" in page(app)
        assert app.screen.zoomed is None  # type: ignore[attr-defined]
        await press(pilot, "down", "enter")
        assert job.looked[-1].layer == "blocks.0.attention.out"
        await press(pilot, "left", "left", "left", "left")
        assert job.looked[-1].layer == ""
        assert listed(app)[1].startswith(" (root)  GPT")
        await press(pilot, "s", "f", "underscore", "right")
        assert listed(app)[1].startswith(" (root)  GPT"), "these mean nothing here"
        await press(pilot, "escape")
        assert "51 layers" in listed(app)[0]
        await press(pilot, "enter", "slash", "q")
        assert "/q_" in listed(app)[0], "from one layer it goes to the list, and no letter is a key"
        assert job.looked[-1].layer is None


def test_the_sampled_steps_are_those_of_the_rank() -> None:
    snapshot = two_ranks()
    by_rank = [replace(one, sampled=7 + place) for place, one in enumerate(snapshot.steps.by_rank)]
    snapshot = replace(snapshot, steps=replace(snapshot.steps, by_rank=tuple(by_rank)))
    headings = [
        LayersPanel(Pen()).heading(
            View(
                replace(snapshot, layers=tuple(replace(one, rank=number) for one in snapshot.layers)),
                75,
                9,
                pid=rank.pid,
            )
        )
        for number, rank in enumerate(snapshot.job.ranks)
    ]
    assert [heading.split(", ")[-1] for heading in headings] == ["7 sampled steps", "8 sampled steps"]


async def test_on_a_small_screen_one_layer_fills_it() -> None:
    async with watching((80, 24)) as (app, pilot, job):
        await press(pilot, "enter")
        await pilot.pause()
        assert len(listed(app)[0].rstrip()) >= 75
        assert "─1 devices" not in page(app)
        await press(pilot, "escape")
        await pilot.pause()
        assert "─1 devices" in page(app)
        assert job.looked[-1].layer is None
        await press(pilot, "z", "enter", "escape")
        assert "─1 devices" not in page(app), "it was full before"


async def test_what_is_chosen_stays_when_numbers_change() -> None:
    async with watching() as (app, pilot, job):
        await press(pilot, "down", "down", "down", "down")
        name = chosen(app)
        snapshot = healthy()
        slower = [replace(one, share=0.5) if one.name == "head" else one for one in snapshot.layers]
        await job.show(replace(snapshot, layers=tuple(slower)))
        await pilot.pause()
        assert listed(app)[2].split()[0] == "head"
        assert chosen(app) == name
        await press(pilot, "enter")
        await job.show(replace(snapshot, layers=tuple(one for one in snapshot.layers if one.name != name)))
        await pilot.pause()
        assert "is not among the layers now" in page(app)


async def test_several_thousand_layers() -> None:
    async with watching(snapshot=many_layers(3000)) as (app, pilot, _):
        await press(pilot, "f", "underscore", "underscore", "G")
        assert "3000 layers" in listed(app)[0]
        assert chosen(app)


async def test_every_key_of_the_table_does_something() -> None:
    order = (
        "down",
        "page_down",
        "first",
        "last",
        "up",
        "page_up",
        "sort",
        "filter",
        "flat",
        "fold",
        "unfold",
        "fold_all",
    )
    keys = {key.id: key.keys.split(",")[0] for key in KEYS if key.where == LAYERS}
    assert {*order, "open"} == keys.keys()
    async with watching() as (app, pilot, _):
        for name in (*order, "open"):
            before = page(app)
            await press(pilot, keys[name])
            assert page(app) != before, name
            if name == "filter":
                await press(pilot, "escape", "home")
