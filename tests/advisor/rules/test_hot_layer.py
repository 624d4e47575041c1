"""Edges of hot-layer, and healthy models, each of which has a hottest layer."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import PID, STEP_S, facts, healthy_layers, layer, rank, seen
from torchtop.advisor.rules import hot_layer
from torchtop.seen import DistributedFacts, StackCount, Stacks
from torchtop.snapshot import Finding, Frame, Layer

GLOO = DistributedFacts(backend="gloo", rank=0, world_size=2)
SITE = Frame(function="forward", file="/job/model.py", line=30)


def judged(*layers: Layer, **changes: Any) -> Finding | None:
    found = hot_layer.check(seen(rank(layers=layers, **changes)))
    assert found is None or isinstance(found, Finding)
    return found


def one_of(share: float, other: float = 0.05, **changes: Any) -> tuple[Layer, ...]:
    """Four layers of `other`, and one of `share`."""
    return (*(layer(f"blocks.{at}.fc", other) for at in range(4)), layer("slow", share, called_at=(SITE,), **changes))


@pytest.mark.parametrize(
    ("share", "severity"), [(0.05, None), (0.14, None), (0.16, "info"), (0.24, "info"), (0.26, "warn"), (0.7, "warn")]
)
def test_severity_by_what_is_above_the_peers(share: float, severity: str | None) -> None:
    """Peers take 0.05: three times as much is 0.15, and 0.25 is 0.20 above."""
    found = judged(*one_of(share))
    assert (found.severity if found is not None else None) == severity


@pytest.mark.parametrize(
    ("share", "following", "told"), [(0.58, 0.1, False), (0.62, 0.1, True), (0.62, 0.17, False), (0.8, 0.05, True)]
)
def test_a_layer_that_dwarfs_all_others_is_told_without_seconds(share: float, following: float, told: bool) -> None:
    """A convolution with a kernel of 15 x 15 beside four of 3 x 3: its work explains its time."""
    work = 25 * 2 * 32 * 128 * 512 * 2048.0
    wide = layer("stem", share, "Conv2d", flops=work, parameters=25_000_000)
    found = judged(wide, *(layer(f"stages.{at}", following, "Conv2d") for at in range(4)))
    assert (found is not None) == told
    if found is not None:
        assert (found.severity, found.recoverable_s, found.where["layer"]) == ("info", None, "stem")


def test_where_the_work_is_not_known_it_is_no_warning() -> None:
    """Equal parameters and output say little of what a module of one's own computes."""
    found = judged(
        *(layer(f"mix.{at}", 0.05, "Mix", flops=None) for at in range(4)), layer("slow", 0.7, "Mix", flops=None)
    )
    assert found is not None
    assert found.severity == "info"


def test_it_names_layer_and_line_and_gives_back_what_is_above() -> None:
    found = judged(*one_of(0.5))
    assert found is not None
    assert (found.where["layer"], found.where["file"], found.where["line"]) == ("slow", "/job/model.py", 30)
    assert found.recoverable_s == pytest.approx(0.045, rel=0.01)


def test_more_work_may_take_more_time() -> None:
    work = 2 * 32 * 128 * 512 * 2048.0
    assert judged(*one_of(0.2, flops=3.5 * work, parameters=3_500_000)) is None
    assert judged(*one_of(0.6, flops=3.5 * work, parameters=3_500_000)) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Conv2d"},
        {"flops": 40 * 2 * 32 * 128 * 512 * 2048.0, "parameters": 40_000_000},
        {"output_shape": (1, 512), "parameters": 50_000_000},
    ],
    ids=["another type", "a large head", "few rows"],
)
def test_what_is_not_alike_is_not_compared(changes: dict[str, Any]) -> None:
    assert judged(*one_of(0.55, **changes)) is None


def test_frozen_layers_are_no_peers_of_one_that_is_trained() -> None:
    frozen = [layer(f"backbone.{at}", 0.05, self_backward_s=None, self_forward_s=0.005) for at in range(4)]
    assert judged(*frozen, layer("head", 0.3)) is None


def test_waiting_for_gradients_is_no_layer() -> None:
    """Under DistributedDataParallel the first layer, the last in backward, waits for all ranks."""
    waits: dict[str, Any] = {"self_forward_s": 0.05 * STEP_S / 3, "self_backward_s": 0.53 * STEP_S}
    layers = (*(layer(f"fc{at}", 0.05) for at in range(4)), layer("first", 0.55, **waits))
    assert judged(*layers) is None
    assert judged(*layers, facts=facts(distributed=GLOO)) is None
    found = judged(*one_of(0.9), facts=facts(distributed=GLOO))
    assert found is not None
    assert found.recoverable_s == pytest.approx((0.9 - 0.05) / 3 * STEP_S, rel=0.01)


def test_equal_blocks_are_not_hot() -> None:
    assert judged(*healthy_layers()) is None
    assert judged(layer("a", 0.45), layer("b", 0.45)) is None


def custom(share: float, *others: Layer, type: str = "SlowBlock", **changes: Any) -> Finding | None:
    """A module without a formula, beside a layer that moves 20 GB/s."""
    known = {"flops": None, "parameters": 0, "output_shape": (32, 64), "called_at": (SITE,), **changes}
    return judged(layer("slow", share, type, **known), layer("fc", 0.1, bytes_per_s=20e9), *others)


@pytest.mark.parametrize(("share", "fires"), [(0.29, False), (0.31, True), (0.9, True)])
def test_a_class_of_ones_own_that_moves_little(share: float, fires: bool) -> None:
    found = custom(share)
    assert (found is not None) is fires
    assert found is None or found.severity == "info"


@pytest.mark.parametrize("type", ["LSTM", "Embedding", "TransformerEncoderLayer", "Conv2d", "LayerNorm"])
def test_torchs_own_is_not_hot_by_itself(type: str) -> None:
    assert custom(0.9, type=type) is None


def test_moving_much_takes_its_time() -> None:
    assert custom(0.4, output_shape=(32, 128, 4096)) is None


def test_equal_modules_of_ones_own_are_not_hot() -> None:
    known: dict[str, Any] = {"flops": None, "parameters": 0, "output_shape": (32, 64)}
    twins = [layer(f"block.{at}", 0.31, "Block", **known) for at in range(2)]
    assert custom(0.31, *twins, type="Block") is None


def test_the_line_is_that_of_the_stacks() -> None:
    inner = Frame(function="scan", file="/job/layers.py", line=12)
    torch = Frame(function="_call_impl", file="/env/site-packages/torch/nn/modules/module.py", line=1779)
    own = Frame(function="forward", file="/job/layers.py", line=20)
    main = Frame(function="main", file="/job/train.py", line=5)
    library = Frame(function="einsum", file="/usr/lib/python3/dist-packages/opt_einsum/contract.py", line=700)
    counts = (
        StackCount(frames=(library, inner, own, torch, SITE, torch, main), count=30),
        StackCount(frames=(own, torch, SITE, torch, main), count=4),
        StackCount(frames=(torch, main), count=90),
    )
    found = judged(*one_of(0.5), stacks=(Stacks(pid=PID, samples=124, rate_hz=20.0, counts=counts),))
    assert found is not None
    assert (found.where["file"], found.where["line"], found.where["function"]) == ("/job/layers.py", 12, "scan")


def test_layers_that_came_and_went_have_no_times() -> None:
    gone = layer("gone", 0.9, calls=0.0, self_forward_s=None, self_backward_s=None)
    assert judged(gone, replace(layer("x", 0.5), share=None)) is None
