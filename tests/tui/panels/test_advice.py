"""What holds the job back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tui import scenes
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from torchtop.snapshot import Abstention, Evidence, Finding, Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.advice import AdvicePanel
from torchtop.tui.view import View

WAITS = Finding(
    code="input-bound",
    severity="critical",
    confidence="high",
    recoverable_s=0.0661,
    evidence=(Evidence(name="data share", value=0.6, unit="", window_s=60.0),),
    summary="The step waits for the data loader for 60 % of its time.",
    where={},
    remedies=("more-workers", "pin-memory"),
)
SLOW = replace(WAITS, code="unfused-optimizer", severity="warn", recoverable_s=0.002, summary="One kernel a tensor.")
HOT = replace(WAITS, code="hot-layer", severity="info", recoverable_s=None, summary="blocks.3 takes most.")
UNSEEN = Abstention(code="transfer-bound", reason="no GPU is used")


@pytest.fixture
def panel() -> AdvicePanel:
    return AdvicePanel(Pen())


@pytest.fixture
def advised() -> Snapshot:
    return replace(scenes.slow_loader(), findings=(WAITS, SLOW, HOT), abstained=(UNSEEN,))


def test_it_fits(panel: AdvicePanel, advised: Snapshot) -> None:
    check_all_sizes(panel, advised, left=False)
    check_all_sizes(panel, scenes.healthy(), left=False)


def test_no_rules_have_run(panel: AdvicePanel) -> None:
    assert drawn(panel, scenes.healthy(), 30, 2) == ["no rules in this version yet"]
    assert panel.heading(View(scenes.healthy(), 80, 24)) == ""


def test_all_is_well(panel: AdvicePanel) -> None:
    snapshot = replace(scenes.healthy(), abstained=(UNSEEN,))
    assert drawn(panel, snapshot, 30, 2) == ["nothing found"]
    assert panel.heading(View(snapshot, 80, 24)) == "1 not judged"


def test_findings_in_their_order(panel: AdvicePanel, advised: Snapshot) -> None:
    wants = panel.wants(View(advised, 120, 40))
    lines = texts(panel, advised, 45, wants - 1)
    heads = [line for line in lines if not line.plain.startswith("   ")]
    assert [line.plain[:2].strip() for line in lines if "step" in line.plain[-5:]] == ["!!", "!"]
    assert heads[0].plain.split() == ["!!", "input-bound", "66.1", "ms/step"]
    assert styles(heads[0], "input-bound") == {"critical"}
    assert "   The step waits for the data loader for 60" in [line.plain for line in lines]


def test_few_rows_have_a_line_of_each(panel: AdvicePanel, advised: Snapshot) -> None:
    assert [line.split()[0] for line in drawn(panel, advised, 30, 3)] == ["!!", "!", "hot-layer"]
    assert drawn(panel, advised, 30, 2)[1] == "2 more (zoom: 6, 6)"


def test_the_zoomed_panel_has_the_numbers(panel: AdvicePanel, advised: Snapshot) -> None:
    page = " ".join(" ".join(drawn(panel, advised, 100, 36, zoomed=True)).split())
    assert "input-bound: data share 0.6 (high confidence); may be cured by more-workers, pin-memory" in page
    assert "not judged: transfer-bound no GPU is used" in page
