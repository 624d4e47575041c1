"""Train or infer with a model that torch.compile compiles, and write down everything that was compiled, and why.

The run stops at gates, each a step number: there it waits for the file `gate-STEP`. What is done between two gates is
the same in every run, whoever watches.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import loops_inference
import models
import residue
import torch
from loops import Loader, Run, plain
from planted import Rows
from torch import Tensor, nn
from torch.utils.data import DataLoader
from truth import Truth, announce

BATCH = 64
WIDTH = 256


class Block(nn.Module):
    """x (batch, width) -> the same shape. A class of one's own: dynamo leaves out what is torch's only."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(WIDTH, WIDTH)
        self.back = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.back(torch.relu(self.wide(x)))
        return result


class Net(nn.Module):
    """x (batch, width) -> logits (batch, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.second = Block()
        self.head = nn.Linear(WIDTH, models.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(self.first(x)))
        return logits


def wrapped(model: nn.Module, backend: str) -> nn.Module:
    compiled: Any = torch.compile(model, backend=backend)
    assert isinstance(compiled, nn.Module)
    return compiled


def in_place(model: nn.Module, backend: str) -> nn.Module:
    model.compile(backend=backend)
    return model


class Caller(nn.Module):
    """A compiled function calls the model."""

    def __init__(self, model: nn.Module, backend: str) -> None:
        super().__init__()
        self.inner = model
        self.call: Callable[[Tensor], Tensor] = torch.compile(self.through, backend=backend)

    def through(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def skipped(_model: nn.Module, backend: str) -> nn.Module:
    """Compiled in place, all of it torch's own: dynamo leaves that as it is, and still looks at every frame in it."""
    model = models.layers(WIDTH, WIDTH, models.CLASSES)
    model.compile(backend=backend)
    return model


HOW: dict[str, Callable[[nn.Module, str], nn.Module]] = {
    "wrapped": wrapped,
    "in-place": in_place,
    "skipped": skipped,
    "inside": Caller,
}


class Sizes:
    """Batches of consecutive rows: of BATCH, and from batch number `shrink_at` on of half as many."""

    def __init__(self, steps: int, shrink_at: int | None) -> None:
        self.sizes = [BATCH if shrink_at is None or step < shrink_at else BATCH // 2 for step in range(steps)]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        at = 0
        for size in self.sizes:
            yield list(range(at, at + size))
            at += size


class Gated:
    """The batches of `loader`; opens gates and compiles between two of them, outside every phase."""

    def __init__(self, job: models.Job, loader: Loader, args: argparse.Namespace) -> None:
        self.job = job
        self.loader = loader
        self.args = args

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for step in range(self.args.steps):
            if step == self.args.compile_at:
                self.job.model = HOW[self.args.how](self.job.model, self.args.backend)
            if step in self.args.gates:
                announce(f"at-{step}")
                while not os.path.exists(f"gate-{step}"):
                    time.sleep(0.002)
            yield next(batches)


def compilations() -> dict[str, Any]:
    """What dynamo counted: graphs, breaks, frames; what each compilation was of, and the why of each that was not the first."""
    utils: Any = sys.modules["torch._dynamo.utils"]
    counted = {name: dict(utils.counters[name]) for name in ("stats", "frames", "graph_break")}
    compiled = [[str(metrics.co_name), metrics.cache_size] for metrics in utils.get_compilation_metrics()]
    return {**counted, "compilations": compiled}


def touched() -> dict[str, int]:
    """What a probe might change in this process, as far as its modules are concerned."""
    seen = {f"{owner}.{name}": id(vars(owner).get(name)) for owner, name in residue.PATCHED}
    seen.update({name: len(getattr(owner, name)) for owner, name in residue.HOOKS})
    return seen


def foreign() -> list[str]:
    """Functions of dynamo that are not its own: it may be imported only when somebody watches already."""
    frames: Any = sys.modules["torch._dynamo.eval_frame"]
    callbacks: Any = sys.modules["torch._dynamo.callback"]
    own = {
        frames: frames.OptimizedModule.__call__,
        callbacks: callbacks.CompilationCallbackHandler.run_start_callbacks,
    }
    return [
        function.__qualname__ for module, function in own.items() if function.__code__.co_filename != module.__file__
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--truth", "--ready", "--stop"):
        parser.add_argument(option, required=True, metavar="FILE")
    parser.add_argument("--how", required=True, choices=HOW)
    parser.add_argument("--backend", default="aot_eager")
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--gates", type=int, nargs="*", default=[], metavar="STEP")
    parser.add_argument("--compile-at", type=int, default=0, metavar="STEP")
    parser.add_argument("--shrink-at", type=int, metavar="STEP", help="half the batch size from here on")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    job = models.classifier(Net(), BATCH, WIDTH)
    data = Rows(job.x, job.y, args.steps * BATCH, BATCH, 0.0)
    loader = DataLoader(data, batch_sampler=Sizes(args.steps, args.shrink_at))
    before = touched()
    truth = Truth(args.truth, arguments=vars(args))
    run = Run(truth, args.steps, ready=args.ready)
    feed: Iterable[Any] = Gated(job, loader, args)
    (loops_inference.inference if args.inference else plain)(job, feed, run)
    after = touched()
    truth.finish(
        **compilations(),
        left=[name for name in before if before[name] != after[name]] + foreign(),
        weights_sha256=models.weights_sha256([job.model]),
    )


if __name__ == "__main__":
    main()
