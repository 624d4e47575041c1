"""GPUs, or the CPU where there is none."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tui import scenes
from tests.tui.panels.drawn import check_all_sizes, drawn, styles, texts
from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.panels.devices import DevicesPanel
from torchtop.tui.view import View


@pytest.fixture
def panel() -> DevicesPanel:
    return DevicesPanel(Pen())


def first_gpus(count: int) -> Snapshot:
    snapshot = scenes.eight_gpus()
    return replace(snapshot, devices=snapshot.devices[:count])


@pytest.mark.parametrize("name", scenes.SCENES)
def test_it_fits(panel: DevicesPanel, name: str) -> None:
    check_all_sizes(panel, scenes.SCENES[name](), left=False)


def test_a_machine_without_gpus(panel: DevicesPanel) -> None:
    assert panel.wants(View(scenes.healthy(), 80, 24)) == 5
    lines = drawn(panel, scenes.healthy(), 30, 4)
    assert lines == [
        "CPU   50.8 % of 2     " + 8 * "▄",
        "job   1.00 cores      " + 8 * "▄",
        "RSS   419 MiB  no cgroup limit",
        "no GPU: no NVIDIA driver libr…",
    ]


def test_why_there_is_no_gpu_in_full_where_there_is_room(panel: DevicesPanel) -> None:
    wants = panel.wants(View(scenes.healthy(), 120, 40))
    page = " ".join(" ".join(drawn(panel, scenes.healthy(), 45, wants - 1)).split())
    assert page.endswith("or start the container with GPUs (docker run --gpus all)")


def test_a_cgroup_limit(panel: DevicesPanel) -> None:
    assert "RSS   3.84 GiB of 4.00 GiB" in drawn(panel, scenes.memory_nearly_full(), 30, 4)
    assert any("of 4.00 GiB cgroup limit" in line for line in drawn(panel, scenes.memory_nearly_full(), 45, 8))


def test_the_cores_of_all_ranks_and_workers(panel: DevicesPanel) -> None:
    assert drawn(panel, scenes.two_ranks(), 30, 4)[1].startswith("job   2.00 cores")
    assert drawn(panel, scenes.slow_loader(), 30, 4)[1].startswith("job   1.40 cores")
    assert drawn(panel, scenes.ended(), 30, 4)[1].startswith("job   — cores")


def test_eight_gpus_on_the_smallest_screen(panel: DevicesPanel) -> None:
    assert panel.wants(View(scenes.eight_gpus(), 80, 24)) == 9
    lines = drawn(panel, scenes.eight_gpus(), 30, 8)
    assert [line[:2] for line in lines] == ["0 ", "1 ", "2 ", "3!", "4 ", "5 ", "6!", "7 "]
    assert lines[0].endswith(" 95.0 % 62.0/80.0G  61°")


def test_eight_gpus_at_120_columns(panel: DevicesPanel) -> None:
    view = View(scenes.eight_gpus(), 120, 40)
    assert panel.heading(view) == "8 x NVIDIA H100 80GB HBM3"
    lines = texts(panel, scenes.eight_gpus(), 45, panel.wants(view) - 1)
    assert lines[3].plain.startswith("3!") and "62.6/80.0 GiB  608 W  88 °C" in lines[3].plain
    assert styles(lines[3], "3!") == {"warn"}
    page = " ".join(" ".join(line.plain for line in lines).split())
    assert "! GPU 3 hw-thermal-slowdown, sw-thermal-slowdown ! GPU 6 sw-power-cap" in page
    assert "CPU 20.0 % of 192" in page


def test_more_gpus_than_rows(panel: DevicesPanel) -> None:
    lines = drawn(panel, scenes.eight_gpus(), 30, 5)
    assert lines[-1] == "4 more GPUs (zoom: 1, 1)"


def test_few_gpus_have_their_history(panel: DevicesPanel) -> None:
    lines = drawn(panel, first_gpus(2), 45, 8)
    assert [line[0] for line in lines[:4]] == ["0", " ", "1", " "]
    assert set(lines[1].strip()) <= set("▆▇█")


def test_the_zoomed_panel_tells_all(panel: DevicesPanel) -> None:
    snapshot = scenes.changed(first_gpus(1), devices__0__missing={"energy_j": "not supported"})
    snapshot = scenes.changed(snapshot, devices__0__energy_j=None)
    page = " ".join(" ".join(drawn(panel, snapshot, 80, 20, zoomed=True)).split())
    assert "SM 1980 of 1980 MHz" in page
    assert "limit 700 W" in page
    assert "spent —" in page
    assert "energy_j — not supported" in page
    assert "processes 41001 61.0 GiB" in page
    assert "Intel(R) Xeon(R) Processor" in page


def test_zoomed_gpus_without_room_are_counted(panel: DevicesPanel) -> None:
    lines = drawn(panel, scenes.eight_gpus(), 80, 20, zoomed=True)
    assert lines[-1] == "2 more GPUs: no room"


def test_clocks_that_somebody_set_are_not_held_down(panel: DevicesPanel) -> None:
    snapshot = scenes.changed(first_gpus(1), devices__0__throttle_reasons=["applications-clocks"])
    assert drawn(panel, snapshot, 45, 8)[0].startswith("0 ")
    assert "clocks by applications-clocks" in "\n".join(drawn(panel, snapshot, 80, 20, zoomed=True))


def test_readings_that_a_gpu_does_not_give(panel: DevicesPanel) -> None:
    names = ("util", "memory_used_bytes", "power_w", "power_limit_w", "temperature_c", "sm_clock_mhz", "name")
    parts = {f"devices__0__{name}": None for name in names}
    snapshot = scenes.changed(first_gpus(1), **parts, devices__0__throttle_reasons=None, devices__0__mig_index=2)
    for width in (30, 45, 75):
        assert drawn(panel, snapshot, width, 4)[0].split()[:2] == ["0.2", "—"]
    drawn(panel, snapshot, 80, 20, zoomed=True)
