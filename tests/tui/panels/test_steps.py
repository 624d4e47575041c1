"""Step time, its phases, throughput and loss."""

from __future__ import annotations

import pytest

from tests.tui import scenes
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.steps import StepsPanel
from torchtop.tui.view import View


@pytest.fixture
def panel() -> StepsPanel:
    return StepsPanel(Pen())


def bar_of(lines: list[str]) -> str:
    """The phase bar: the line after the one that names the largest phase."""
    (at,) = [index for index, line in enumerate(lines) if line.startswith("largest: ")]
    return lines[at + 1]


@pytest.mark.parametrize("name", scenes.SCENES)
def test_it_fits(panel: StepsPanel, name: str) -> None:
    check_all_sizes(panel, scenes.SCENES[name](), left=True)


def test_a_small_screen(panel: StepsPanel) -> None:
    view = View(scenes.healthy(), 80, 24)
    assert panel.wants(view) == 10
    assert panel.heading(view) == "1,234 steps since attach"
    lines = drawn(panel, scenes.healthy(), 49, 9)
    assert lines[0].endswith("120 ms")
    assert lines[1:4] == [
        "median   108 ms  p95      116 ms  jitter   7.05 %",
        "samples/s  73.3  tokens/s  9.38k  loss       2.52",
        "largest: forward 51.6 % of 108 ms  132 sampled",
    ]
    assert lines[4] == "DF" + 23 * "█" + "B" + 20 * "▓" + "O=·"
    assert lines[5:] == [
        "D data          0.195 %  T transfer            —",
        "F forward        51.6 %  B backward       42.4 %",
        "O optimizer      3.96 %  C communication       —",
        "· other          1.85 %",
    ]


def test_what_takes_most_stands_out_without_colour(panel: StepsPanel) -> None:
    lines = texts(panel, scenes.slow_loader(), 49, 9)
    assert lines[3].plain.startswith("largest: data 60.0 % of 110 ms")
    (row,) = [line for line in lines if line.plain.startswith("D data")]
    assert styles(row, "data") == {"strong"}
    assert styles(row, "transfer") == {"quiet"}


def test_times_and_reasons_where_there_is_room(panel: StepsPanel) -> None:
    wants = panel.wants(View(scenes.healthy(), 120, 40))
    page = drawn(panel, scenes.healthy(), 74, wants - 1)
    assert "F forward        51.6 %  55.9 ms  B backward       42.4 %  45.9 ms" in page
    assert "transfer — not measurable on CPU: copies are not apart from compute" in page


def test_a_tiny_phase_has_its_column(panel: StepsPanel) -> None:
    assert bar_of(drawn(panel, scenes.healthy(), 49, 9)).startswith("DF")


def test_the_zoomed_panel_has_a_line_for_each_phase(panel: StepsPanel) -> None:
    page = drawn(panel, scenes.healthy(), 120, 36, zoomed=True)
    (forward,) = [line.split() for line in page if line.startswith("F forward")]
    assert forward[-4:] == ["51.6", "%", "55.9", "ms"]
    assert "jitter: by how much the 95th percentile is above the median" in page


def test_host_phases_are_named_as_such(panel: StepsPanel) -> None:
    page = "\n".join(drawn(panel, scenes.eight_gpus(), 49, 9))
    assert "largest: forward 43.0 % of 130 ms  host's clock" in page
    page = "\n".join(drawn(panel, scenes.eight_gpus(), 74, 14))
    assert "host's clock  rank 3  132 sampled" in page
    assert "phases — the device's time between" in page


def test_of_which_rank(panel: StepsPanel) -> None:
    assert any("  rank 1" in line for line in drawn(panel, scenes.two_ranks(), 49, 9))
    assert not any("process" in line for line in drawn(panel, scenes.healthy(), 120, 36))


def test_a_loss_that_is_not_finite(panel: StepsPanel) -> None:
    lines = texts(panel, scenes.diverged(), 49, 10)
    assert (lines[0].plain, str(lines[0].style)) == ("!! the loss is not finite", "critical")
    (row,) = [line for line in lines if "loss not finite" in line.plain]
    assert styles(row, "not finite") == {"critical"}
    assert panel.wants(View(scenes.diverged(), 80, 24)) == 11


def test_a_loss_that_was_not_told(panel: StepsPanel) -> None:
    page = drawn(panel, scenes.compiled(), 74, 30)
    assert "loss — no sampled step told one" in page
    assert any(line.endswith("all steps") for line in page)


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (scenes.attaching(), "attaching: waits for a Python safe point of its"),
        (scenes.outside(), "steps, phases and loss are not seen from outside:"),
    ],
)
def test_no_steps(panel: StepsPanel, scene: Snapshot, text: str) -> None:
    assert panel.heading(View(scene, 80, 24)) == ""
    assert " ".join(drawn(panel, scene, 60, 9)).startswith(text)


def test_a_job_that_hangs_says_where(panel: StepsPanel) -> None:
    hung = scenes.changed(scenes.healthy(), steps__count=0)
    page = " ".join(drawn(panel, hung, 49, 9))
    assert "no step has ended in the last 60.0 s, 1,234 since attach" in page
    assert "main thread: scaled_dot_product_attention (attention.py:41)" in " ".join(page.split())
    new = scenes.changed(hung, steps__total=0)
    assert "none since attach" in drawn(panel, new, 74, 9)[0]


def test_steps_that_were_kept_out(panel: StepsPanel) -> None:
    snapshot = scenes.changed(scenes.healthy(), steps__excluded={"first-of-epoch": 2, "checkpoint": 1})
    assert "not in median and mean: 2 first-of-epoch, 1 checkpoint" in drawn(panel, snapshot, 74, 16)


def test_no_samples_counted(panel: StepsPanel) -> None:
    why = "no DataLoader, and no input of a module was seen yet"
    reasons = {"samples_per_s": why, "batch_size": why}
    parts = {"steps__samples_per_s": None, "steps__batch_size": None, "steps__tokens_per_s": None}
    snapshot = scenes.changed(scenes.healthy(), steps__reasons=reasons, **parts)
    page = drawn(panel, snapshot, 74, 20)
    assert f"samples/s, batch — {why}" in " ".join(page)
    assert not any("tokens/s" in line for line in page)


def test_micro_steps(panel: StepsPanel) -> None:
    snapshot = scenes.changed(scenes.healthy(), steps__micro_steps=4.0)
    assert any("micro       4×8" in line for line in drawn(panel, snapshot, 120, 20))


def test_a_step_far_above_the_others_does_not_flatten_them(panel: StepsPanel) -> None:
    times = [0.1] * 59 + [30.0]
    snapshot = scenes.changed(scenes.healthy(), history__step_s=times)
    page = drawn(panel, snapshot, 120, 36, zoomed=True)
    assert page[0].endswith("400 ms")
    assert page[1].endswith("1 above")
