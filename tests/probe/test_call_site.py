"""Where a module is called from, as the user sees it: lines of this file, never of torch's or ours."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torchtop.call_sites import CallSites
from torchtop.layer_report import layers
from torchtop.probe import wire
from torchtop.probe.teller import Teller
from torchtop.probe.watch import call_site
from torchtop.probe.watch.budget import Budget
from torchtop.probe.watch.watch import Watch
from torchtop.record import ProbeMessage
from torchtop.window import RankWindow
from torchtop.wire_message import check

Noting: Any = call_site.CallSites  # what runs in the target has no annotations
X = torch.ones(2, 4)
NOT_SHOWN = (Path(torch.__file__).parent, Path(call_site.__file__).parents[1])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.rest = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.inner(x)
        return self.rest(x)

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(x)


def seen(model: nn.Module, call: Callable[[nn.Module], torch.Tensor]) -> dict[str, list[str] | None]:
    """Name of each layer -> functions of this file that led to its call, innermost first; of some armed steps."""
    budget = Budget()
    budget.fix(1)
    watch = Watch(torch, budget)
    window = RankWindow(1)

    def take(kind: str, body: dict[str, Any]) -> None:
        check({"type": kind, **body})
        window.take(ProbeMessage(t=0.0, rank_pid=1, type=kind, body=body))

    teller = Teller(take)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    assert watch.attach()
    try:
        for _ in range(5):
            optimizer.zero_grad()
            call(model).sum().backward()
            optimizer.step()
            watch.tick()
            teller.tell(watch)
    finally:
        assert watch.detach()
    assert watch.errors == 0
    rows, _ = layers(window, None)
    return {row.name: None if row.called_at is None else _here(row.called_at) for row in rows}


def _here(frames: Any) -> list[str]:
    assert not [frame for frame in frames if any(Path(frame.file).is_relative_to(folder) for folder in NOT_SHOWN)]
    here = [frame for frame in frames if frame.file == __file__]
    lines = Path(__file__).read_text().splitlines()
    return [lines[frame.line - 1].strip() for frame in here][: [f.function for f in here].index("seen")]


def test_frames_of_the_program_only_innermost_first() -> None:
    def program(model: nn.Module) -> torch.Tensor:
        return model(X)

    root, first = "return model(X)", "x = self.first(x)"
    assert seen(Block(), program) == {
        "": [root],
        "first": [first, root],
        "second": ["return self.second(x)", "x = self.inner(x)", root],
        "rest": ["return self.rest(x)", root],
        "rest.0": ["return self.rest(x)", root],
        "rest.1": ["return self.rest(x)", root],
        "rest.1.0": ["return self.rest(x)", root],
    }


def test_a_wrapper_is_looked_through_and_a_hook_is_a_caller() -> None:
    extra = nn.Linear(4, 4)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrapped = nn.DataParallel(Block())  # without a GPU it calls what it wraps
            self.extra = extra

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.wrapped(x)

    def hook(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return extra(output)

    model = Outer()
    model.wrapped.module.second.register_forward_hook(hook)
    found = seen(model, lambda model: model(X))
    assert (found["wrapped.first"] or [])[:2] == ["x = self.first(x)", "return self.wrapped(x)"]
    assert (found["extra"] or [])[:3] == ["return extra(output)", "return self.second(x)", "x = self.inner(x)"]


def test_recomputation_is_no_call() -> None:
    """Neither way of checkpointing hides the line that called it, nor does the backward pass add one."""
    for reentrant in (True, False):

        def program(model: nn.Module, reentrant: bool = reentrant) -> torch.Tensor:
            x = X.clone().requires_grad_()
            return checkpoint(model, x, use_reentrant=reentrant)

        found = seen(Block(), program)
        call = "return checkpoint(model, x, use_reentrant=reentrant)"
        assert found["first"] == ["x = self.first(x)", call]


def test_a_job_that_trains_in_a_thread() -> None:
    found: list[dict[str, list[str] | None]] = []

    def train() -> None:
        found.append(seen(Block(), lambda model: model(X)))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert (found[0]["second"] or [])[:2] == ["return self.second(x)", "x = self.inner(x)"]


def test_a_module_called_in_backward_only_has_no_call_site() -> None:
    inside = nn.Linear(4, 4)

    class Strange(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return inside(gradients[0])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.outside = inside, nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return Strange.apply(self.outside(x))

    found = seen(Model(), lambda model: model(X))
    assert found["outside"] is not None
    assert found.get("inside") is None


def noted(depth: int) -> Any:
    """Call sites after one call from inside `depth` calls of a function by itself."""
    sites = Noting(torch)

    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            sites.note(3, sys._getframe())

    deeper(depth)
    sites.note(4, None)
    return sites


def calling(sites: Any, file: str, function: str) -> Callable[[int], None]:
    """A function of that name and file, which calls the module whose number it is given."""

    def call(index: int) -> None:
        sites.note(index, sys._getframe())

    names: Any = {"co_qualname": function} if hasattr(call.__code__, "co_qualname") else {}
    call.__code__ = call.__code__.replace(co_filename=file, co_name=function, **names)
    return call


def test_the_innermost_frames_are_kept() -> None:
    sites = noted(20)
    assert [row[0] for row in sites.rows] == list(range(-1, wire.SITE_FRAMES - 1))
    assert sites.called == [(3, wire.SITE_FRAMES - 1)], "a call from nowhere is not noted"


def test_no_more_rows_than_the_wire_allows() -> None:
    sites = Noting(torch)
    for index in range(wire.SITE_LIMIT + 50):
        calling(sites, f"cell {index}", "cell")(index)
    assert len(sites.rows) == wire.SITE_LIMIT
    bodies = told(sites)
    assert all(len(json.dumps(body)) < wire.LINE_LIMIT for body in bodies)


def told(sites: Any) -> list[dict[str, Any]]:
    """What goes over the wire, twice: all but the first time as one who comes later is told it."""
    bodies: list[dict[str, Any]] = []
    teller = Teller(lambda kind, body: bodies.append(body))
    teller._tell_sites(sites)
    assert [body for kind, body in teller.known() if kind == wire.SITES] == bodies
    teller._tell_sites(sites)
    for body in bodies:
        check({"type": wire.SITES, **body})
    return bodies


def test_many_modules_take_few_lines_and_odd_names_pass() -> None:
    """5,000 modules called in a loop; the file is not UTF-8, the function has a long name."""
    sites = Noting(torch)
    call = calling(sites, b"/home/\xff/train.py".decode("utf-8", "surrogateescape"), "f" * 5000)
    for index in range(5000):
        call(index)
    bodies = json.loads(json.dumps(told(sites)))
    assert sum(len(body["frames"]) for body in bodies) <= wire.SITE_FRAMES
    assert len(json.dumps(bodies)) < 100_000
    window = CallSites()
    for body in bodies:
        window.add(body)
    stacks = {window.of(index) for index in range(5000)}
    ((innermost, *_),) = [stack for stack in stacks if stack is not None]
    assert (innermost.file, len(innermost.function)) == ("/home/\\udcff/train.py", 1003)


def test_a_lost_message_makes_no_stack_up() -> None:
    bodies = told(noted(3))
    window = CallSites()
    window.add({"first": 1, "frames": bodies[0]["frames"][1:], "calls": bodies[0]["calls"]})
    assert (window.of(3), window.of(99)) == (None, None)
    window.add(bodies[0])
    stack = window.of(3)
    assert stack is not None and len(stack) == wire.SITE_FRAMES
