"""The processes of the job."""

from __future__ import annotations

import pytest

from tests.tui import found, scenes
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from torchtop.snapshot import Frame
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.ranks import RanksPanel
from torchtop.tui.view import View


@pytest.fixture
def panel() -> RanksPanel:
    return RanksPanel(Pen())


@pytest.mark.parametrize("name", scenes.SCENES)
def test_it_fits(panel: RanksPanel, name: str) -> None:
    check_all_sizes(panel, scenes.SCENES[name](), left=False)


def test_two_of_four(panel: RanksPanel) -> None:
    view = View(scenes.two_ranks(), 120, 40)
    assert panel.heading(view) == "rank 1 slowest"
    lines = texts(panel, scenes.two_ranks(), 45, panel.wants(view) - 1)
    assert [line.plain for line in lines] == [
        "  rank    pid    step   slower cores      RSS",
        "  0     41001  108 ms  fastest  1.00  419 MiB",
        "▸ 1     41002  119 ms  +10.0 %  1.00  419 MiB",
        "this node only: 2 ranks elsewhere",
    ]
    assert styles(lines[2], "119 ms") == {"strong"}
    assert styles(lines[1], "108 ms") == {"number"}


def test_the_rank_that_was_chosen_is_marked(panel: RanksPanel) -> None:
    lines = panel.draw(View(scenes.two_ranks(), 45, 8, pid=found.PID))
    assert [line.plain[0] for line in lines[1:3]] == ["▸", " "]


def test_no_rank_stands_out_where_mean_and_median_disagree(panel: RanksPanel) -> None:
    snapshot = scenes.changed(scenes.two_ranks(), steps__by_rank__0__median_s=0.13)
    assert panel.heading(View(snapshot, 80, 24)) == ""
    assert styles(texts(panel, snapshot, 45, 8)[2], "119 ms") == {"number"}


def test_one_rank_is_neither_fastest_nor_slowest(panel: RanksPanel) -> None:
    assert panel.heading(View(scenes.healthy(), 80, 24)) == ""
    assert drawn(panel, scenes.healthy(), 30, 2)[1] == "  —     41001  108 ms"


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [
        ("ended", "ended", "41001: the process has ended (exit code 1)"),
        ("attaching", "attaching", "41001: waits for a Python safe point"),
        ("outside", "outside", "41001: nothing was put into it, as asked (--no-probe)"),
        ("stopped", "stopped", None),
    ],
)
def test_what_a_rank_is_instead_of_attached(panel: RanksPanel, name: str, word: str, reason: str | None) -> None:
    lines = drawn(panel, scenes.SCENES[name](), 75, 8)
    assert lines[1].split()[:3] == ["—", "41001", word]
    assert (reason is None and len(lines) == 2) or (reason is not None and lines[2].startswith(reason))


def test_a_lost_rank_among_others(panel: RanksPanel) -> None:
    parts = {"job__ranks__5__state": "lost", "job__ranks__5__reason": "it stopped answering"}
    lines = drawn(panel, scenes.changed(scenes.eight_gpus(), **parts), 30, 5)
    assert [line.split()[:2] for line in lines[1:4]] == [["0", "41001"], ["▸", "3"], ["5", "41006"]]
    assert lines[3].endswith("lost")
    assert lines[4] == "5 more (zoom: 5, 5)"


def test_very_few_rows_go_to_ranks(panel: RanksPanel) -> None:
    lines = drawn(panel, scenes.eight_gpus(), 30, 2)
    assert lines[0].startswith("▸ 3     41004  130 ms  +20.0 %")
    assert lines[1] == "7 more (zoom: 5, 5)"


def test_the_zoomed_panel_says_how_and_where(panel: RanksPanel) -> None:
    page = " ".join(" ".join(drawn(panel, scenes.two_ranks(), 120, 36, zoomed=True)).split())
    assert "by ptrace hello after 42.1 ms paused for 3.60 ms python 3.11.7 torch 2.13.0+cpu" in page
    assert "main thread in scaled_dot_product_attention (attention.py:41) < forward (block.py:87)" in page
    assert "this node only: 2 ranks elsewhere" in page


def test_ranks_without_room_for_details_are_counted(panel: RanksPanel) -> None:
    lines = drawn(panel, scenes.eight_gpus(), 80, 20, zoomed=True)
    assert lines[-1] == "6 more: no room, [ and ] choose one"
    assert any(line.startswith("rank 3  by ptrace") for line in lines)


def test_a_deep_stack(panel: RanksPanel) -> None:
    frames = [Frame(function=f"f{depth}", file="/a/b.py", line=depth) for depth in range(1, 9)]
    frames.insert(0, Frame(function="outer.<locals>.inner", file="/a/b.py", line=0))
    frames.insert(1, Frame(function="Module._call_impl", file="/torch/nn/modules/module.py", line=1))
    document = [{"function": frame.function, "file": frame.file, "line": frame.line} for frame in frames]
    snapshot = scenes.changed(scenes.healthy(), stacks__0__frames=document)
    page = " ".join(" ".join(drawn(panel, snapshot, 120, 20, zoomed=True)).split())
    assert "inner (b.py:0) < f1 (b.py:1)" in page
    assert page.endswith("f5 (b.py:5) < 3 more")


def test_names_from_the_target_do_not_move_the_cursor(panel: RanksPanel) -> None:
    snapshot = scenes.changed(scenes.ended(), job__ranks__0__reason="\x1b[2Jgone", job__ranks__0__torch="2\x1b[0m")
    page = "".join(drawn(panel, snapshot, 120, 20, zoomed=True))
    assert "\x1b" not in page and "?[2Jgone" in page


def test_ranks_left_out(panel: RanksPanel) -> None:
    snapshot = scenes.changed(scenes.two_ranks(), job__ranks_left_out=1)
    lines = drawn(panel, snapshot, 45, 8)
    assert lines[3:] == ["1 more here, not asked for", "this node only: 1 rank elsewhere"]


def test_no_rank_at_all(panel: RanksPanel) -> None:
    snapshot = scenes.changed(scenes.outside(), job__ranks=[])
    assert drawn(panel, snapshot, 30, 4) == ["no process is left here"]
