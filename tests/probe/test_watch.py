"""The watch in this very process: odd loops, and what a program does to our patches."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from torchtop.layer_report import layers
from torchtop.probe.teller import Teller
from torchtop.probe.watch.budget import Budget
from torchtop.probe.watch.watch import Watch
from torchtop.record import ProbeMessage
from torchtop.window import RankWindow


class Watching:
    """A watch that arms every step, and the window that it fills."""

    def __init__(self) -> None:
        budget = Budget()
        budget.fix(1)
        self.watch = Watch(torch, budget)
        self.window = RankWindow(1)
        self._teller = Teller(self._take)
        assert self.watch.attach()

    def _take(self, kind: str, body: dict[str, Any]) -> None:
        self.window.take(ProbeMessage(t=0.0, rank_pid=1, type=kind, body=body))

    def steps(self, count: int, step: Callable[[], None]) -> RankWindow:
        for _ in range(count):
            step()
            self.watch.tick()
            self._teller.tell(self.watch)
        return self.window


@pytest.fixture
def watching() -> Iterator[Watching]:
    found = Watching()
    yield found
    assert found.watch.detach()
    assert found.watch.errors == 0


def training_step(model: nn.Module, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x = torch.randn(4, 8)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(x)).backward()
        optimizer.step()

    return step


def test_a_loss_made_anew_in_every_step_is_one_row(watching: Watching) -> None:
    target = torch.zeros(4, dtype=torch.long)
    step = training_step(nn.Linear(8, 3), lambda out: nn.CrossEntropyLoss()(out, target))
    rows, _ = layers(watching.steps(8, step), None)
    assert [(row.name, row.type) for row in rows] == [("", "Linear"), ("CrossEntropyLoss:", "CrossEntropyLoss")]
    assert [row.calls for row in rows] == [1.0, 1.0]


def test_on_cuda_no_host_time_is_sold_as_a_layers(watching: Watching) -> None:
    window = watching.steps(6, training_step(nn.Linear(8, 3), torch.sum))
    window.facts = {**window.facts, "devices": ["cuda"]}
    (row,), _ = layers(window, None)
    assert (row.calls, row.parameters) == (1.0, 27)
    assert (row.forward_s, row.backward_s, row.self_forward_s, row.self_backward_s, row.share) == (None,) * 5


def test_a_loss_that_is_not_finite_is_flagged_and_cuts_nothing(watching: Watching) -> None:
    window = watching.steps(5, training_step(nn.Linear(8, 3), lambda out: out.sum() * float("inf")))
    assert (window.loss, window.loss_finite) == (None, False)
    assert len(window.steps) == 4


def test_samples_are_what_the_loader_handed_out(watching: Watching) -> None:
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    batches = iter(DataLoader(TensorDataset(torch.randn(64, 8)), batch_size=4))

    def step() -> None:
        optimizer.zero_grad()
        model(next(batches)[0]).sum().backward()
        optimizer.step()

    window = watching.steps(8, step)
    assert [row.samples for row in window.steps] == [4] * 7
    assert window.armed[-1].phases["data"] is not None


def test_two_optimizers_in_turn_make_one_step(watching: Watching) -> None:
    first, second = nn.Linear(8, 1), nn.Linear(8, 1)
    steps = [training_step(model, torch.sum) for model in (first, second)]
    turn = iter(range(1000))
    window = watching.steps(20, lambda: steps[next(turn) % 2]())
    assert len(window.steps) == 9
    assert {row.micro_steps for row in window.steps} == {2}


def test_a_patch_that_the_program_wrapped_stays_passes_through_and_is_listed() -> None:
    watching = Watching()
    ours = torch.save
    calls: list[object] = []

    def wrapped(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        ours(*args, **kwargs)

    torch.save = wrapped
    try:
        watching.watch.detach()
        assert watching.watch.left_behind == ["torch.save"]
        file = io.BytesIO()
        torch.save({"a": 1}, file)
        assert calls and file.getvalue()
    finally:
        torch.save = ours.__wrapped__  # type: ignore[attr-defined]


def test_a_patch_that_cannot_be_put_in_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a torch that has no such class any more."""
    monkeypatch.delattr(torch.utils.data.dataloader, "DataLoader")
    watch = Watch(torch, Budget())
    with pytest.raises(AttributeError):
        watch.attach()
    assert watch.attach()
    step = training_step(nn.Linear(8, 1), torch.sum)
    for _ in range(3):
        step()
    assert len(watch.take()[0]) == 2
    assert watch.detach()
    assert watch.left_behind == []
