"""Forward and backward times of layers against torch.profiler, in the very same steps."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from torchtop.probe.teller import Teller
from torchtop.probe.watch.budget import Budget
from torchtop.probe.watch.watch import Watch
from torchtop.record import ProbeMessage
from torchtop.window import RankWindow

STEPS = 12


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ff = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, time, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        return x + self.ff(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 192)
        self.blocks = nn.Sequential(*[Block(192) for _ in range(3)])
        self.head = nn.Linear(192, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(tokens)))


@pytest.fixture
def watch() -> Iterator[Watch]:
    torch.set_num_threads(1)
    budget = Budget()
    budget.fix(1)
    watching = Watch(torch, budget)
    assert watching.attach()
    yield watching
    assert watching.detach()
    assert watching.left_behind == []


def _true_times(profiled: Any) -> tuple[dict[str, float], dict[str, float]]:
    """(forward, backward) seconds of each leaf by its record_function range and by autograd sequence number."""
    forward: dict[str, float] = defaultdict(float)
    backward: dict[str, float] = defaultdict(float)
    owner: dict[int, str] = {}
    events = profiled.events()
    for event in events:
        if event.name.startswith("leaf:"):
            forward[event.name[5:]] += event.cpu_time_total / 1e6
        if event.sequence_nr >= 0 and event.scope == 0:
            above = event.cpu_parent
            while above is not None and not above.name.startswith("leaf:"):
                above = above.cpu_parent
            if above is not None:
                owner[event.sequence_nr] = above.name[5:]
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function") and event.sequence_nr in owner:
            backward[owner[event.sequence_nr]] += event.cpu_time_total / 1e6
    return forward, backward


def test_layers_agree_with_the_profiler(watch: Watch) -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    tokens = torch.randint(0, 256, (8, 64))
    ranges: dict[int, Any] = {}

    def enter(name: str) -> Any:
        def hook(module: nn.Module, _args: Any) -> None:
            ranges[id(module)] = torch.autograd.profiler.record_function(f"leaf:{name}")
            ranges[id(module)].__enter__()

        return hook

    def leave(module: nn.Module, _args: Any, _output: Any) -> None:
        ranges.pop(id(module)).__exit__(None, None, None)

    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}
    for name, module in leaves.items():
        module.register_forward_pre_hook(enter(name))
        module.register_forward_hook(leave)

    def step() -> None:
        optimizer.zero_grad()
        out = model(tokens)
        nn.functional.cross_entropy(out.flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()

    window = RankWindow(1)
    teller = Teller(lambda kind, body: window.take(ProbeMessage(t=0.0, rank_pid=1, type=kind, body=body)))
    for _ in range(5):
        step()
        watch.tick()
    teller.tell(watch)
    window.armed.clear()
    true: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(STEPS):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            step()
        teller.tell(watch)
        true.append(_true_times(profiled))
    assert len(window.armed) == STEPS
    roots = window.tree.trained_roots(window.tree.modules)
    index = {window.tree.shown_name(i, roots): i for i in window.tree.modules}
    assert set(leaves) <= set(index)

    for said_of, which in (("self_forward_s", 0), ("self_backward_s", 1)):
        said = {n: median(getattr(s.modules[index[n]], said_of) or 0.0 for s in window.armed) for n in leaves}
        expected = {n: median(t[which].get(n, 0.0) for t in true) for n in leaves}
        total = sum(expected.values())
        assert sum(said.values()) == pytest.approx(total, rel=0.10), said_of
        big = [n for n in leaves if expected[n] > 0.06 * total]
        assert len(big) >= 5
        off = {n: round(said[n] / expected[n], 3) for n in big if abs(said[n] / expected[n] - 1) > 0.10}
        assert not off, f"{said_of}: said / true of big layers {off}"
