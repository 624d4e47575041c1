"""What holds the job back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tui import scenes
from tests.tui.found import INPUT_BOUND, NOT_FOR_CPU
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from tests.tui.scripted import Rulebook
from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.advice import AdvicePanel
from torchtop.tui.view import View

HOSTILE = "\x1b[2J\x1b]0;pwned\x07 模型模型模型模型\n" * 4


@pytest.fixture
def panel() -> AdvicePanel:
    return AdvicePanel(Pen(), Rulebook())


@pytest.fixture
def advised() -> Snapshot:
    return scenes.advised()


@pytest.mark.parametrize("scene", ["healthy", "advised", "many_findings", "few_steps", "attaching", "eight_gpus"])
def test_it_fits(panel: AdvicePanel, scene: str) -> None:
    check_all_sizes(panel, scenes.SCENES[scene](), left=False)


@pytest.mark.parametrize("zoomed", [False, True])
@pytest.mark.parametrize("width", [20, 29, 80])
def test_names_from_the_job_cannot_move_the_cursor(panel: AdvicePanel, width: int, zoomed: bool) -> None:
    bad = replace(
        INPUT_BOUND,
        code=HOSTILE,
        summary=HOSTILE,
        where={"layer": HOSTILE, HOSTILE: HOSTILE},
        evidence=(replace(INPUT_BOUND.evidence[0], name=HOSTILE, unit=HOSTILE),),
        remedies=(HOSTILE,),
    )
    hostile = [replace(one, code=HOSTILE, reason=HOSTILE) for one in NOT_FOR_CPU]
    snapshot = replace(scenes.healthy(), findings=(bad,), abstained=tuple(hostile))
    for height in (1, 4, 30):
        page = "\n".join(drawn(panel, snapshot, width, height, zoomed=zoomed))
        assert "\x1b" not in page and "\x07" not in page
        assert page.startswith(" !! ?[2J")


def test_all_is_well(panel: AdvicePanel) -> None:
    assert " ".join(drawn(panel, scenes.healthy(), 30, 3)) == "nothing found: all is well in what 24 rules look at"
    assert drawn(AdvicePanel(Pen()), scenes.healthy(), 30, 3) == ["nothing found"]
    assert panel.heading(View(scenes.healthy(), 80, 24)) == "20 not judged"
    assert panel.heading(View(replace(scenes.healthy(), abstained=()), 80, 24)) == ""


def test_it_is_too_early(panel: AdvicePanel) -> None:
    assert drawn(panel, scenes.few_steps(), 30, 3) == ["watching: 4 of 20 steps seen"]


def test_nothing_can_be_judged(panel: AdvicePanel) -> None:
    assert " ".join(drawn(panel, scenes.attaching(), 30, 3)) == "no step was seen yet: nothing to judge"
    snapshot = replace(scenes.healthy(), abstained=NOT_FOR_CPU * 3)
    assert drawn(panel, snapshot, 30, 3) == ["no rule can judge this job yet"]


def test_findings_in_their_order(panel: AdvicePanel, advised: Snapshot) -> None:
    wants = panel.wants(View(advised, 120, 40))
    lines = texts(panel, advised, 44, wants - 1)
    assert [line.plain.rstrip() for line in lines] == [
        " !! input-bound                 66.1 ms/step",
        "    the step waits 60% of its time for the",
        "    DataLoader, which has 1 worker",
        " !  host-stall                  8.20 ms/step",
        "    7% of the step goes by in log_metrics",
        "    (train.py:88)",
        "    unfused-optimizer           1.10 ms/step",
        "    AdamW steps one tensor after the other",
        "    unused-parameters                 3.10 %",
        "    head.aux never had a gradient",
    ]
    assert styles(lines[0], "input-bound") == {"critical"}
    assert styles(lines[3], "host-stall") == {"warn"}


def test_few_rows_have_a_line_of_each(panel: AdvicePanel, advised: Snapshot) -> None:
    every = [
        " !! input-bound        66.1 ms",
        " !  host-stall         8.20 ms",
        "    unfused-optimizer  1.10 ms",
        "    unused-parameters   3.10 %",
    ]
    assert drawn(panel, advised, 30, 4) == every
    assert drawn(panel, advised, 30, 6)[:4] == [
        every[0],
        "    the step waits 60% of its",
        "    time for the DataLoader, …",
        every[1],
    ]
    assert drawn(panel, advised, 30, 3) == [*every[:2], "2 more (zoom: 6, 6)"]
    assert drawn(panel, advised, 30, 1) == every[:1]
    assert drawn(panel, advised, 20, 4)[2] == "    unfused… 1.10 ms"


def test_the_zoomed_panel_has_the_numbers(panel: AdvicePanel, advised: Snapshot) -> None:
    page = " ".join(" ".join(drawn(panel, advised, 100, 36, zoomed=True)).split())
    assert "waiting for data: 60.0 % of the step (58.2 % to 61.8 %)" in page
    assert "at log_metrics (/home/me/train.py:88), process 41001" in page
    assert "cured by more-workers, pin-memory" in page
    assert "not judged 18 the job computes on the CPU: transfer-bound, " in page


def test_the_zoomed_panel_has_as_much_as_there_is_room_for(panel: AdvicePanel, advised: Snapshot) -> None:
    assert "measured" not in "".join(drawn(panel, advised, 80, 20, zoomed=True))
    many = drawn(panel, scenes.many_findings(), 80, 8, zoomed=True)
    assert many[-1] == "6 more"
