"""What memory is made of, and how much is left."""

from __future__ import annotations

import pytest

from tests.tui import scenes
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.memory import MemoryPanel
from torchtop.tui.view import View


@pytest.fixture
def panel() -> MemoryPanel:
    return MemoryPanel(Pen())


@pytest.mark.parametrize("name", scenes.SCENES)
def test_it_fits(panel: MemoryPanel, name: str) -> None:
    check_all_sizes(panel, scenes.SCENES[name](), left=False)


def test_a_small_screen(panel: MemoryPanel) -> None:
    assert panel.wants(View(scenes.memory_nearly_full(), 80, 24)) == 7
    assert drawn(panel, scenes.memory_nearly_full(), 30, 6) == [
        "free 164 MiB of 4.00 GiB !",
        "P████G▓▓▓▓O==========·········",
        "P parameters   700 MiB  17.8 %",
        "G gradients    700 MiB  17.8 %",
        "O optimizer   1.37 GiB  35.6 %",
        "· other       1.11 GiB  28.8 %",
    ]


@pytest.mark.parametrize(
    ("rss", "mark", "kind"), [(3.5, "", "strong"), (3.84, " !", "warn"), (3.95, " !!", "critical")]
)
def test_the_mark_repeats_the_colour(panel: MemoryPanel, rss: float, mark: str, kind: str) -> None:
    used = round(rss * scenes.GIB)
    snapshot = scenes.changed(scenes.memory_nearly_full(), job__ranks__0__rss_bytes=used, memory__used_bytes=used)
    line = texts(panel, snapshot, 30, 6)[0]
    assert line.plain.endswith(f" of 4.00 GiB{mark}")
    assert styles(line, line.plain.split()[1]) == {kind}


def test_few_rows_have_the_largest_parts(panel: MemoryPanel) -> None:
    lines = drawn(panel, scenes.memory_nearly_full(), 30, 4)
    assert [line[0] for line in lines] == ["f", "P", "O", "·"]


def test_totals_and_reasons_where_there_is_room(panel: MemoryPanel) -> None:
    wants = panel.wants(View(scenes.healthy(), 120, 40))
    page = drawn(panel, scenes.healthy(), 45, wants - 1)
    assert "in use  419 MiB  peak  429 MiB" in page
    assert "activations — on CPU what is kept for backward can only be measured by consent" in " ".join(page)
    assert "allocator" not in " ".join(page)
    zoomed = "\n".join(drawn(panel, scenes.healthy(), 80, 20, zoomed=True))
    assert "reserved — there is no caching allocator on CPU" in zoomed
    assert "612 MiB with its file cache, no limit" in zoomed


def test_a_gpu(panel: MemoryPanel) -> None:
    page = drawn(panel, scenes.eight_gpus(), 45, 10)
    assert page[0] == "free 19.0 GiB of 80.0 GiB  device"
    assert "in use 58.0 GiB  peak 60.0 GiB" in page
    assert "reserved 61.0 GiB" in page
    assert panel.heading(View(scenes.eight_gpus(), 120, 40)) == "rank 3"


def test_nothing_known_is_a_reason_and_no_table_of_dashes(panel: MemoryPanel) -> None:
    page = drawn(panel, scenes.outside(), 45, 12)
    assert page[0].startswith("free 22.9 GiB of 23.5 GiB")
    assert "no optimizer has stepped since attach" in " ".join(page)
    assert not any(line.startswith("P ") for line in page)


def test_not_even_the_headroom(panel: MemoryPanel) -> None:
    snapshot = scenes.changed(
        scenes.outside(), host__memory_available_bytes=None, memory__limit_bytes=None, memory__reasons={}
    )
    assert drawn(panel, snapshot, 30, 6)[0] == "free —"
