"""The scan of the weights: in this very process on odd modules, and on a real job that must not notice."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import gc
import itertools
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import Start
from tests.wire_client import WireClient
from torchtop.probe import wire
from torchtop.probe.teller import Teller
from torchtop.probe.watch import facts, passes
from torchtop.probe.watch.budget import Budget
from torchtop.probe.watch.gradients import Gradients
from torchtop.probe.watch.watch import Watch
from torchtop.probe.watch.weight_reading import Reading
from torchtop.record import ProbeMessage
from torchtop.seen import WeightRow, Weights
from torchtop.window import RankWindow
from torchtop.wire_message import check

MOST_STEPS = 3_000


class Scanning:
    """A watch that may take as long as the job itself, asked for the weights; and the window that it fills."""

    def __init__(self) -> None:
        budget = Budget(share=1.0)
        self.watch = Watch(torch, budget)
        self.window = RankWindow(1)
        self._teller = Teller(self._take)
        assert self.watch.attach()
        self._teller.weights.want()

    def _take(self, kind: str, body: dict[str, Any]) -> None:
        told = {**json.loads(json.dumps(body, allow_nan=False)), "v": wire.VERSION, "type": kind}
        check(told)
        self.window.take(ProbeMessage(t=0.0, rank_pid=1, type=kind, body=told))

    def until(self, step: Callable[[], None], looks: int = 0) -> Weights:
        for _ in range(MOST_STEPS):
            step()
            self.watch.tick()
            self._teller.tell(self.watch)
            found = self.window.weights.found
            if found is not None and found.boundaries >= looks:
                return found
        raise AssertionError(f"no scan after {MOST_STEPS} steps: {self.window.weights.reason}")


@pytest.fixture
def scanning() -> Iterator[Scanning]:
    found = Scanning()
    yield found
    assert found.watch.detach()
    assert found.watch.errors == 0


def training(model: nn.Module, *inputs: Any, held: Any = None) -> Callable[[], None]:
    """Steps of SGD that leave the weights as they are."""
    optimizer = torch.optim.SGD(list(model.parameters() if held is None else held), 0.0)

    def step() -> None:
        optimizer.zero_grad()
        model(*inputs).float().square().mean().backward()
        optimizer.step()

    return step


def by_name(found: Weights) -> dict[str, WeightRow]:
    return {f"{row.module}.{row.name}".lstrip("."): row for row in found.rows}


class Odd(nn.Module):
    """One of each kind of weight that is counted in its own way, and of those that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.dense = nn.Linear(16, 40)
        self.pruned = nn.Linear(40, 32)
        self.up = nn.ConvTranspose1d(32, 24, 3)
        self.coarse = nn.Linear(24, 16).to(torch.bfloat16)
        self.tied = nn.Linear(16, 50, bias=False)
        self.tied.weight = self.words.weight
        self.lazy = nn.LazyLinear(4)
        self.complex = nn.Parameter(torch.zeros(4, 4, dtype=torch.complex64))
        self.infinite = nn.Linear(4, 4)
        with torch.no_grad():
            self.dense.weight[:30] = 0
            self.dense.weight[30:33] *= 1e-6
            self.up.weight[:, :6] = 0
            self.infinite.weight[0, 0] = float("inf")
        prune.random_structured(self.pruned, "weight", 0.5, dim=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.pruned(self.dense(self.words(x)))
        out = self.up(out.transpose(1, 2)).transpose(1, 2)
        return self.tied(self.coarse(out.to(torch.bfloat16)).float())


def test_what_is_near_zero_by_kind_of_module(scanning: Scanning) -> None:
    torch.manual_seed(0)
    model = Odd()
    found = scanning.until(training(model, torch.randint(50, (2, 8)), held=model.dense.parameters()))
    rows = by_name(found)
    counted = {name: (row.channels, row.channels_near_zero) for name, row in rows.items() if row.norm is not None}
    assert counted == {
        "words.weight": (None, None),
        "dense.weight": (40, 33),
        "pruned.weight": (32, 16),
        "up.weight": (24, 6),
        "coarse.weight": (16, 0),
    }
    assert rows["dense.weight"].elements_near_zero == pytest.approx(33 * 16, abs=8)
    assert rows["pruned.weight"].norm is not None and rows["pruned.weight"].norm > 0
    assert (rows["infinite.weight"].channels_near_zero, rows["infinite.weight"].norm) == (None, None)
    assert found.left_out == {"of lazy modules that were not called yet": 2, "of dtype complex64": 1}


@pytest.mark.parametrize(("width", "zero"), [(4096, slice(2048)), (4096, slice(0, None, 2)), (1536, slice(0, None, 2))])
def test_of_a_large_weight_some_channels_are_read(scanning: Scanning, width: int, zero: slice) -> None:
    """Every so manieth, but not in step with a pattern that the weight has itself."""
    model = nn.Linear(width, 4096, bias=False)
    with torch.no_grad():
        model.weight[zero] = 0
    (row,) = scanning.until(training(model, torch.randn(1, width))).rows
    assert (row.channels, row.elements) == (4096, width * 4096)
    assert row.channels_looked is not None and 64 <= row.channels_looked <= 1024
    assert row.channels_near_zero == pytest.approx(row.channels_looked / 2, rel=0.15)
    assert row.elements_looked is not None and row.elements_near_zero is not None
    assert row.elements_near_zero / row.elements_looked == pytest.approx(0.5, abs=0.3), "of eight channels or more"


class Branches(nn.Module):
    """A body, a head that nothing calls, one that takes part every third time, and one that is an average of the body."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.unused, self.seldom = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.average, self.frozen = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        with torch.no_grad():
            self.average.weight.lerp_(torch.randn(8, 8), 0.1)
        out = self.frozen(self.body(x))
        return self.seldom(out) if self.calls % 3 == 0 else out


def test_who_gets_a_gradient(scanning: Scanning) -> None:
    model = Branches()
    elsewhere = nn.Parameter(torch.zeros(5, 5))
    step = training(model, torch.randn(4, 8), held=[*model.parameters(), elsewhere])
    found = scanning.until(step, looks=10)
    rows = by_name(found)
    had = {name: row.had_gradient for name, row in rows.items() if name.endswith("weight")}
    assert had == {
        "body.weight": True,
        "unused.weight": False,
        "seldom.weight": True,
        "average.weight": False,
        "frozen.weight": None,
    }
    assert (rows["average.weight"].changed, rows["unused.weight"].changed) == (True, False)
    assert not rows["frozen.weight"].trainable
    assert [row.elements for row in found.rows if not row.called] == [25]
    assert found.optimized_elements == 4 * (64 + 8) + 25


def test_a_closure_that_computes_the_gradients(scanning: Scanning) -> None:
    model = nn.Linear(8, 8)
    x = torch.randn(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)

    def closure() -> float:
        loss = model(x).square().mean()
        loss.backward()
        return float(loss.detach())

    def step() -> None:
        optimizer.step(closure)
        optimizer.zero_grad()

    found = scanning.until(step, looks=10)
    assert [row.had_gradient for row in found.rows] == [True]


def test_each_of_two_optimizers_has_its_turn(scanning: Scanning) -> None:
    """As in a GAN: what one of them never trains is not looked for among the other's."""
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    steps = [training(net, torch.randn(4, 8)) for net in (first, second)]

    def step() -> None:
        for one in steps:
            one()

    found = scanning.until(step, looks=10)
    assert [(row.had_gradient, row.changed) for row in found.rows] == [(True, None)] * 2


def test_inference_has_no_gradients_to_look_for(scanning: Scanning) -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 8)).eval()

    def steps() -> None:
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(64, 8))

    found = scanning.until(steps)
    assert [(row.module, row.channels, row.had_gradient) for row in found.rows] == [("0", 32, None), ("1", 8, None)]
    assert (found.boundaries, found.optimized_elements) == (0, None)


def test_nothing_is_kept_alive(scanning: Scanning) -> None:
    model = nn.Linear(8, 8)
    scanning.until(training(model, torch.randn(4, 8)), looks=10)
    gone = weakref.ref(model.weight)
    del model
    gc.collect()
    assert gone() is None
    assert scanning.watch.weights.gradients.held() == (set(), 0), "ids may come back as those of others"


def test_in_inference_mode_and_out_of_it(scanning: Scanning) -> None:
    model = nn.Sequential(nn.Linear(64, 4096), nn.Linear(4096, 64)).eval()
    calls = itertools.count()

    def steps() -> None:
        for _ in range(20):
            with torch.inference_mode(next(calls) % 2 == 0):
                model(torch.randn(4, 64))

    found = scanning.until(steps)
    assert [row.channels for row in found.rows] == [4096, 64]


class Widths(TorchDispatchMode):
    """Notes the largest tensor that any operation is given."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view and function is not torch.ops.aten.detach.default:
            self.largest = max([self.largest, *(arg.numel() for arg in args if isinstance(arg, torch.Tensor))])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(2048, 300),
        nn.Embedding(100_000, 4),
        nn.ConvTranspose2d(64, 128, 7),
        nn.Conv2d(3, 5, 7),
        nn.Linear(30_000, 3),
    ],
    ids=repr,
)
def test_no_piece_wakes_threads_of_torch(module: nn.Module) -> None:
    with torch.no_grad(), Widths() as widths:
        reading = Reading(torch, module, "weight", 1 << 21)
        while not reading.done:
            reading.step(module, 1 << 20)
        assert not reading.changed(module)
    assert 0 < widths.largest < 1 << 15  # at::internal::GRAIN_SIZE


def test_modules_that_cannot_be_gone_through_are_given_up(scanning: Scanning) -> None:
    class Broken(nn.Module):
        def named_modules(self, *_args: Any, **_kwargs: Any) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    weights = scanning.watch.weights
    for _ in range(2):
        weights.want()
        told = [weights.news([Broken()]) for _ in range(7)]
        assert told.pop(4) == (
            "the modules of the model could not be gone through: RuntimeError: dictionary changed size during iteration"
        )
        assert told == [None] * 6


@pytest.mark.filterwarnings("error")
def test_a_parameter_that_is_no_leaf_is_not_asked_for_its_gradient() -> None:
    """torch would warn on the job's stderr."""
    model, derived = nn.Linear(8, 8), torch.zeros(8, 8)
    optimizer = torch.optim.SGD([*model.parameters(), derived])
    derived.requires_grad_()
    gradients = Gradients(Budget(share=1.0))
    model(torch.randn(4, 8)).sum().backward()
    gradients.before_step(optimizer)
    assert list(gradients.never()) == [id(derived)]
    derived.requires_grad_(False).add_(torch.ones(8, 8, requires_grad=True))
    while gradients.looks() < 2:
        gradients.before_step(optimizer)
    assert gradients.never() == {}
    assert gradients.held()[1] == 8 * 8 + 8
    assert passes._has_gradients(optimizer)
    assert facts.memory_made_of([optimizer])["gradients_bytes"] == 4 * (8 * 8 + 8)


class Passing(TorchDispatchMode):
    """Meets every operation, as a FLOP counter does."""

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def test_nothing_is_read_where_a_mode_of_the_program_would_meet_it(scanning: Scanning) -> None:
    step = training(nn.Linear(8, 8), torch.randn(4, 8))
    with Passing():
        for _ in range(20):
            step()
            scanning.watch.tick()
            scanning._teller.tell(scanning.watch)
        assert scanning.watch.weights.pace.pieces == 0
    scanning.until(step)


PART: dict[str, Any] = {
    "part": 0,
    "parts": 1,
    "t": 1.0,
    "boundaries": 3,
    "elements": 4,
    "optimized_elements": None,
    "left_out": {},
}
ROW: list[Any] = [0, "weight", 4, 16, True, None, 2, 2, 1, 4, 2, 1.0, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"part": 1},
        {"parts": 10**6},
        {"boundaries": -1},
        {"left_out": {"why": "many"}},
        {"rows": [ROW[:-1]]},
        {"rows": [[*ROW[:8], 3, *ROW[9:]]]},
        {"rows": [[*ROW[:9], 5, *ROW[10:]]]},
        {"rows": [[*ROW[:11], 1e300, None]]},
        {"modules": [[-1, "", "Linear"]]},
        {"reason": 5},
    ],
)
def test_garbage_does_not_pass(wrong: dict[str, Any]) -> None:
    body = {"v": wire.VERSION, "type": wire.WEIGHTS, **PART, "modules": [[0, "", "Linear"]], "rows": [ROW]}
    check(body)
    with pytest.raises(ValueError, match="weights"):
        check({**body, **wrong})


def test_half_a_scan_is_none() -> None:
    window = RankWindow(1)
    body = {**PART, "parts": 2, "modules": [[0, "", "Linear"]]}
    for part in (1, 0, 0):
        window.take(ProbeMessage(t=0.0, rank_pid=1, type=wire.WEIGHTS, body={**body, "part": part}))
        assert window.weights.found is None
    window.take(ProbeMessage(t=0.0, rank_pid=1, type=wire.WEIGHTS, body={**PART, "part": 1, "parts": 2, "rows": [ROW]}))
    found = window.weights.found
    assert found is not None and [row.channels for row in found.rows] == [2]


def test_a_job_that_is_scanned_is_bit_identical(start: Start) -> None:
    job = ("train.py", "--model", "transformer", "--steps", "600", "--small")
    expected = start(*job).finish()
    target = start(*job).wait_ready()
    with WireClient(target.pid) as client:
        client.send(wire.BUDGET, share=0.5)
        client.send(wire.LOOK, what="weights")
        told = client.until(lambda m: m["type"] == wire.WEIGHTS and "rows" in m, "a scan of the weights")
        assert len(told["rows"]) > 1
        bye = client.leave()
    assert bye["left_behind"] == []
    truth = target.finish()
    assert (truth["losses_sha256"], truth["weights_sha256"]) == (expected["losses_sha256"], expected["weights_sha256"])
