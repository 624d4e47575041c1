"""Train in a thread while main waits in `join`, with global hooks of the user's own that must stay exact.

One set of hooks is there from the start. A second comes and goes every few steps from step 20 on, as a user's
own profiler would. After each step every hook must have been called exactly as often as it was due.
"""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import argparse
import threading
from typing import Any

import torch
from loops import Loader, Run
from models import CLASSES, called_modules, clusters, layers, weights_sha256
from planted import Rows
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle
from truth import Truth

WIDTH = 128
BATCH = 32
SECOND_FROM = 20  # step at which the second set of hooks first comes
TOGGLE_EVERY = 3  # steps


class UserHooks:
    """Global module and optimizer hooks that count their calls."""

    KINDS = ("forward_pre", "forward", "step_pre", "step_post")

    def __init__(self) -> None:
        self.called = dict.fromkeys(self.KINDS, 0)
        self.due = dict.fromkeys(self.KINDS, 0)
        self._handles: list[RemovableHandle] = []

    @property
    def registered(self) -> bool:
        return bool(self._handles)

    def _counter(self, kind: str) -> Any:
        def hook(*_: object) -> None:
            self.called[kind] += 1

        return hook

    def register(self) -> None:
        self._handles = [
            register_module_forward_pre_hook(self._counter("forward_pre")),
            register_module_forward_hook(self._counter("forward")),
            register_optimizer_step_pre_hook(self._counter("step_pre")),
            register_optimizer_step_post_hook(self._counter("step_post")),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def expect(self, modules: int) -> None:
        """One more forward through so many modules and one optimizer step, if registered."""
        if self.registered:
            for kind in self.KINDS:
                self.due[kind] += modules if kind.startswith("forward") else 1


class Trainer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model: nn.Module = layers(WIDTH, WIDTH, WIDTH, CLASSES)
        self.modules = called_modules([self.model])
        self.truth = Truth(args.truth, modules=self.modules, batch_size=BATCH)
        self.hooks = {"before": UserHooks(), "after": UserHooks()}

    def check(self) -> None:
        """Record which hook was called too often or not often enough, and count on from there."""
        for name, hooks in self.hooks.items():
            hooks.expect(len(self.modules))
            if hooks.called != hooks.due:
                self.truth.errors.append(f"step {self.truth.steps}: {name} called {hooks.called}, due {hooks.due}")
                hooks.due = dict(hooks.called)

    def toggle(self) -> None:
        since = self.truth.steps - SECOND_FROM
        if since < 0 or since % TOGGLE_EVERY:
            return
        second = self.hooks["after"]
        if second.registered:
            second.remove()
        else:
            second.register()

    def train(self) -> None:
        torch.set_flush_denormal(True)  # this thread's; see train.py
        truth = self.truth
        x, y = clusters(16 * BATCH, WIDTH)
        dataset = Rows(x, y, len(x), BATCH, sleep_s=0.0)
        shuffle = torch.Generator().manual_seed(self.args.seed)
        loader: Loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, generator=shuffle)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.hooks["before"].register()
        run = Run(truth, self.args.steps, ready=self.args.ready, stop=self.args.stop)
        for x, y in run.batches(loader):
            optimizer.zero_grad()
            with truth.phase("forward"):
                loss = nn.functional.cross_entropy(self.model(x), y)
            with truth.phase("backward"):
                loss.backward()
            with truth.phase("optimizer"):
                optimizer.step()
            run.step(len(x), loss)
            self.check()
            self.toggle()

    def run(self) -> None:
        """Train; whatever is raised, by the loop or by a hook in it, ends up in the truth."""
        try:
            self.train()
        except Exception:  # noqa: BLE001  # recorded, all of it
            self.truth.error()
        for hooks in self.hooks.values():
            hooks.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train in a thread, with hooks of the user's own.")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end; FILE.steps as it goes")
    parser.add_argument("--ready", metavar="FILE", help="appears after the first step")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    trainer = Trainer(args)
    thread = threading.Thread(target=trainer.run, name="trainer")
    thread.start()
    thread.join()
    trainer.truth.finish(
        weights_sha256=weights_sha256([trainer.model]),
        hooks_called={name: hooks.called for name, hooks in trainer.hooks.items()},
    )


if __name__ == "__main__":
    main()
