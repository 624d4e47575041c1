"""The printed page, from hand-made records and from one that was recorded."""

from __future__ import annotations

import io

import msgspec
import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from tests.tui.scenes import RECORDED, advised, changed, healthy
from torchtop.snapshot import CollectorHealth, Device, Snapshot
from torchtop.tui import summary

PHASES = ("data", "transfer", "forward", "backward", "optimizer", "communication")


@pytest.fixture
def recorded() -> Snapshot:
    """The transformer demo, watched for 10 s on a CPU; stacks and most layers taken out."""
    return msgspec.json.decode(RECORDED.read_bytes(), type=Snapshot)


def lines(snapshot: Snapshot, width: int = 80) -> list[str]:
    return summary.summary(snapshot, width).plain.split("\n")


def line(snapshot: Snapshot, start: str) -> str:
    """The one line that begins with `start`."""
    (found,) = [text for text in lines(snapshot) if text.startswith(start)]
    return found


def test_a_footnote_is_given_once() -> None:
    notes = summary.Notes()
    assert [notes.mark(reason) for reason in ("one", "two", "one", None)] == ["— ¹", "— ²", "— ¹", "—"]
    assert [text.plain for text in notes.lines(80)] == ["¹ one", "² two"]


@pytest.mark.parametrize("width", [summary.NARROWEST, 80, 120])
def test_the_recorded_page_fits(recorded: Snapshot, width: int) -> None:
    assert max(cell_len(text) for text in lines(recorded, width)) <= width


@pytest.mark.parametrize(("columns", "used"), [(40, 40), (80, 80), (120, 120), (300, 120)])
def test_the_console_decides_the_width(recorded: Snapshot, columns: int, used: int) -> None:
    out = io.StringIO()
    Console(file=out, width=columns).print(summary.render(recorded))
    assert max(cell_len(text.rstrip()) for text in out.getvalue().split("\n")) <= used
    assert out.getvalue().endswith("\n")


def test_the_recorded_page(recorded: Snapshot) -> None:
    page = "\n".join(lines(recorded))
    assert page.startswith("python -m torchtop.demo.transformer ")
    assert "training, watched for 10.0 s" in page
    assert "python 3.11.7   torch 2.13.0+cpu   1 rank" in page
    assert line(recorded, "STEP") == "STEP     median 108 ms   mean 109 ms   p95 116 ms   90 steps"
    assert "73.3 samples/s   9.38k tokens/s   batch 8   loss 2.52" in page
    assert line(recorded, "forward").split()[2:6] == ["51.6", "%", "55.9", "ms"]
    assert line(recorded, "blocks.3.attention ").split()[-3:] == ["9.73", "%", "0"]
    assert "top 12 of the 51," in page
    assert "GPU      — no NVIDIA driver library" in page
    assert "probe 0.553 % of step time, 21 steps sampled, now 1 in 4" in page
    assert "detached: nothing left behind" in page


def test_layers_are_in_order_of_their_share(recorded: Snapshot) -> None:
    page = lines(recorded)
    first = page.index(line(recorded, "LAYERS")) + 2
    shares = [float(row.split()[-3]) for row in page[first : first + summary.LAYERS]]
    assert shares == sorted(shares, reverse=True)


def test_what_holds_the_job_back() -> None:
    page = lines(advised())
    first = page.index(line(advised(), "ADVICE"))
    assert page[first : first + 3] == [
        "ADVICE   !! input-bound   up to 66.1 ms/step (60.0 %)",
        "            the step waits 60% of its time for the DataLoader, which has 1",
        "            worker; /home/me/data/images.py:57",
    ]
    assert page[first + 3] == "         !  host-stall   up to 8.20 ms/step (7.40 %)"
    assert "         20 more rules could not judge" in page


def test_nothing_holds_it_back() -> None:
    assert line(healthy(), "ADVICE") == "ADVICE   nothing found; 20 rules could not judge"
    assert line(replace(healthy(), abstained=()), "ADVICE") == "ADVICE   nothing found"


def test_a_missing_phase_is_a_dash_with_its_reason(recorded: Snapshot) -> None:
    assert line(recorded, "transfer").split()[:3] == ["transfer", "—", "¹"]
    assert line(recorded, "¹") == "¹ not measurable on CPU: copies are not apart from compute"


def test_nothing_was_sampled(recorded: Snapshot) -> None:
    empty = changed(
        recorded,
        steps__phases_s=None,
        steps__phase_reasons={},
        steps__sampled=0,
        steps__sampled_mean_s=None,
        steps__median_s=None,
        steps__loss=None,
        layers=[],
        layers_left_out=0,
    )
    assert "no step was sampled" in line(empty, "¹")
    for name in PHASES:
        assert line(empty, f"{name} ").split()[1:3] == ["—", "¹"]
    assert "none was timed" in line(empty, "LAYERS")
    assert "median —" in line(empty, "STEP")


def test_no_probe(recorded: Snapshot) -> None:
    outside = changed(recorded, health__probe=None, job__mode=None, job__ranks__0__attach=None)
    page = "\n".join(lines(outside))
    assert "not attached, watched for" in page
    assert "no probe was in the job" in page
    assert "nothing left behind" not in page


def test_what_was_left_behind_is_said(recorded: Snapshot) -> None:
    page = "\n".join(lines(changed(recorded, health__probe__left_behind=["a hook that the job has wrapped"])))
    assert "left behind: a hook that the job has wrapped" in page
    assert "nothing left behind" not in page


def test_a_lost_rank_is_not_called_detached(recorded: Snapshot) -> None:
    lost = changed(recorded, job__ranks__0__state="lost", job__ranks__0__reason="the process has ended")
    page = "\n".join(lines(lost))
    assert "not detached: the process has ended" in page
    assert "¹ the process has ended" in page


def test_a_loss_that_is_not_finite(recorded: Snapshot) -> None:
    page = "\n".join(lines(changed(recorded, steps__loss=None, steps__loss_finite=False)))
    assert "loss not finite" in page


def test_steps_that_were_kept_out(recorded: Snapshot) -> None:
    page = "\n".join(lines(changed(recorded, steps__excluded={"first-of-epoch": 2, "pause": 1})))
    assert "kept out of median and mean: 2 first-of-epoch, 1 pause" in page


def test_two_ranks(recorded: Snapshot) -> None:
    """The page shows the slowest rank's layers, and says so."""
    document = msgspec.to_builtins(recorded)
    ranks, dists = document["job"]["ranks"], document["steps"]["by_rank"]
    document["job"]["world_size"] = 4
    document["job"]["ranks"] = [{**ranks[0], "rank": rank, "pid": 70 + rank} for rank in (0, 1)]
    document["steps"]["by_rank"] = [
        {**dists[0], "rank": rank, "pid": 70 + rank, "mean_s": mean, "median_s": mean}
        for rank, mean in ((0, 0.1), (1, 0.2))
    ]
    document["steps"]["pid"] = 71
    document["layers"] = [{**row, "rank": rank, "type": f"Of{rank}"} for row in document["layers"] for rank in (0, 1)]
    document["layers_left_out"] = 0
    page = lines(msgspec.convert(document, Snapshot))
    assert any("2 of 4 ranks" in text for text in page)
    assert [text.split()[-2:] for text in page if text[:2] in ("0 ", "1 ")] == [["100", "ms"], ["200", "ms"]]
    assert any("sampled steps of rank 1" in text for text in page)
    assert any(" Of1 " in text for text in page)
    assert not any(" Of0 " in text for text in page)


def test_a_gpu(recorded: Snapshot) -> None:
    device = Device(
        index=0,
        mig_index=2,
        uuid=None,
        name="NVIDIA H100 80GB HBM3",
        util=0.93,
        memory_util=None,
        memory_used_bytes=12 * 2**30,
        memory_total_bytes=80 * 2**30,
        power_w=402.0,
        power_limit_w=700.0,
        energy_j=None,
        temperature_c=61.0,
        sm_clock_mhz=1980,
        sm_clock_max_mhz=1980,
        memory_clock_mhz=None,
        throttle_reasons=("sw_power_cap",),
        processes=None,
        missing={},
    )
    page = " ".join(" ".join(lines(changed(recorded, devices=[msgspec.to_builtins(device)]))).split())
    assert (
        "GPU 0.2 NVIDIA H100 80GB HBM3 93.0 % busy memory 12.0 GiB of 80.0 GiB 402 W of 700 W 61.0 °C "
        "SM 1980 MHz held down by sw_power_cap" in page
    )


def test_a_collector_that_is_off_without_a_reason(recorded: Snapshot) -> None:
    row = CollectorHealth(name="gpu", state="off", reason=None, failures=0, mean_s=None)
    assert line(changed(recorded, health__collectors=[msgspec.to_builtins(row)]), "GPU").split() == ["GPU", "—"]
