"""One layer closely, as lines."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from msgspec.structs import replace

from tests.tui.layers.layer_rows import STEP_S, layer
from tests.tui.scenes import ended, healthy, wave
from torchtop.snapshot import Frame, Layer, LayerHistory, Snapshot
from torchtop.tui.layers.page import Subject, page
from torchtop.tui.layers.times import together
from torchtop.tui.layers.tree import Tree
from torchtop.tui.view import View

FRAMES = (
    Frame(function="Block.forward", file="/home/me/model/" + "deep/" * 30 + "block.py", line=87),
    Frame(function="<module>", file="/home/me/train.py", line=120),
)
BLOCK = layer("blocks.0", 0.001, 0.01, type="Block", called_at=FRAMES)
MLP = layer("blocks.0.mlp", 0.01, flops=2e9, parameters=66_048, parameter_bytes=264_192, activation_bytes=2**20)


def subject(name: str, *layers: Layer, **parts: Any) -> Subject:
    tree = Tree([one.name for one in layers])
    measures = together(tree, {one.name: one for one in layers}, STEP_S)
    found = next((one for one in layers if one.name == name), None)
    inside = [(child, measures[child]) for child in tree.children(name)]
    return Subject(name, found, measures[name], inside=inside, **parts)


def lines(shown: Subject, snapshot: Snapshot | None = None, width: int = 100, height: int = 30) -> list[str]:
    return [text.plain for text in page(View(snapshot or healthy(), width, height), shown)]


def line(texts: list[str], start: str) -> str:
    (found,) = [text for text in texts if text.startswith(f" {start}")]
    return found.rstrip()


def looked_at(**parts: Any) -> Snapshot:
    snapshot = healthy()
    assert snapshot.history is not None
    fields = {"self_forward_s": wave(0.007, 0.2, 132), "self_backward_s": wave(0.003, 0.2, 132), **parts}
    found = LayerHistory(pid=snapshot.job.ranks[0].pid, name="blocks.0", **fields)
    return replace(snapshot, history=replace(snapshot.history, layer=found))


@pytest.mark.parametrize("height", [3, 11, 20, 33])
@pytest.mark.parametrize("width", [49, 74, 80, 120, 200])
def test_it_fits(width: int, height: int) -> None:
    shown = subject("blocks.0", replace(BLOCK, recompute_s=0.01), MLP, elsewhere=[replace(BLOCK, rank=1)])
    drawn = page(View(looked_at(), width, height), shown)
    assert len(drawn) <= height
    assert max(text.cell_len for text in drawn) <= width


def test_what_it_is_and_takes() -> None:
    texts = lines(subject("blocks.0.mlp", BLOCK, MLP))
    assert texts[0] == " blocks.0.mlp  Linear"
    assert " ".join(line(texts, "output").split()) == "output 8x4 float32 calls 1 per step"
    assert " ".join(line(texts, "parameters").split()) == "parameters 66.0k FLOP/s 200G in forward"
    assert (
        " ".join(line(texts, "by itself").split()) == "by itself 10.0 ms 10.0 ms 20.0 ms 20.0 % 258 KiB 1.00 MiB 2.00G"
    )
    assert not [text for text in texts if "inside" in text]
    assert line(texts, "device") == " device      cpu: its time is the host's"


@pytest.mark.parametrize(
    ("bound", "part", "peaks", "said"),
    [
        ("compute", 0.62, "calibrated", "compute, at 62.0 % of the peak (calibrated)"),
        ("bandwidth", 0.9, "best layer of this job", "bandwidth, at 90.0 % of the peak (best layer of this job)"),
        ("overhead", 0.01, "published", "overhead: 1.00 % of what its work allows (published)"),
    ],
)
def test_what_bounds_it(bound: Literal["compute", "bandwidth", "overhead"], part: float, peaks: str, said: str) -> None:
    bounded = replace(MLP, bound_by=bound, bound_share=part, bound_peaks=peaks)
    assert " ".join(line(lines(subject("blocks.0.mlp", BLOCK, bounded)), "bound by").split()) == f"bound by {said}"
    assert not [text for text in lines(subject("blocks.0.mlp", BLOCK, MLP)) if "bound by" in text]


def test_with_what_is_inside() -> None:
    texts = lines(subject("blocks.0", BLOCK, MLP))
    assert line(texts, "by itself").split()[2:4] == ["1.00", "ms"]
    assert line(texts, "with inside").split()[2:4] == ["11.0", "ms"]
    assert "10, 66.1k with inside" in line(texts, "parameters")
    assert texts[-1].startswith("▶mlp")


def test_a_holder_says_that_it_is_none() -> None:
    texts = lines(subject("blocks", BLOCK, MLP))
    assert texts[0] == " blocks  holder"
    assert "sums of what it holds" in texts[1]
    assert not [text for text in texts if "by itself" in text or "called at" in text]


def test_its_history_comes_when_it_was_asked_for() -> None:
    shown = subject("blocks.0", BLOCK)
    assert line(lines(shown), "history").endswith("comes with the next snapshot")
    assert line(lines(shown, ended()), "history").endswith("was not asked for while the job ran")
    texts = lines(shown, looked_at(self_backward_s=(None,) * 132))
    assert "█" in line(texts, "forward ")
    assert line(texts, "forward ").endswith("5.63 ms to 8.29 ms"), "of what the curve shows"
    assert line(texts, "backward ").endswith("— in none of the last 132 sampled steps")


def test_where_it_is_called() -> None:
    texts = lines(subject("blocks.0", BLOCK), width=60)
    assert line(texts, "called at").startswith(" called at   Block.forward (…")
    assert line(texts, "called at").endswith("/block.py:87)")
    assert line(texts, "from") == " from        <module> (/home/me/train.py:120)"
    assert line(lines(subject("blocks.0.mlp", MLP)), "called at").endswith("— its first call was not seen")


def test_recomputation_is_told_apart() -> None:
    texts = lines(subject("blocks.0", replace(BLOCK, recompute_s=0.0091)))
    assert "9.10 ms of forward done again in backward" in line(texts, "recompute")


def test_on_a_gpu_without_its_time() -> None:
    snapshot = healthy()
    why = "the host only queues kernels"
    rank = replace(snapshot.job.ranks[0], device="cuda")
    snapshot = replace(
        snapshot,
        job=replace(snapshot.job, ranks=(rank,)),
        steps=replace(snapshot.steps, phase_reasons={"forward": why}),
    )
    texts = lines(subject("blocks.0", layer("blocks.0")), snapshot)
    assert line(texts, "device") == f" device      cuda: {why}"
    assert line(texts, "by itself").split()[2:6] == ["—"] * 4


def test_the_same_layer_elsewhere() -> None:
    texts = lines(subject("blocks.0", BLOCK, elsewhere=[replace(BLOCK, rank=3)]))
    assert line(texts, "other ranks") == " other ranks by itself, 3: 2.00 ms"


def test_names_cannot_move_the_cursor() -> None:
    evil = layer("a\x1b[2J", 0.01, type="T\x1b]0;x\x07", dtype="\x1b[H", called_at=FRAMES)
    assert "\x1b" not in "".join(lines(subject("a\x1b[2J", evil)))
