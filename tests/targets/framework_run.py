"""What the targets of all frameworks share: arguments, sentences to learn, when to end, which modules were called.

They run in an environment of their own (tests/frameworks/requirements.txt), where nothing of torchtop is installed.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import os
import sys

import torch
from models import weights_sha256
from torch import Tensor, nn
from torch.utils.data import Dataset
from truth import Truth, announce

BATCH_SIZE = 16
WORDS = 512
LENGTH = 64  # tokens of a sentence
BATCHES_PER_EPOCH = 40


def arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches to one optimizer step")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end; FILE.steps as it goes")
    parser.add_argument("--ready", metavar="FILE", help="appears after the first step")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # AdamW's moments of dead units become denormal after some 800 steps: its step would take up to 2.5 times as long.
    torch.set_flush_denormal(True)
    return args


class Sentences(Dataset[dict[str, Tensor]]):
    """Random token ids, each sentence its own answer, as language models want them."""

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(0)
        self._ids = torch.randint(0, WORDS, (BATCHES_PER_EPOCH * BATCH_SIZE, LENGTH), generator=source)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self._ids[index], "labels": self._ids[index]}


class Run:
    """The truth of one run, and whether it is over."""

    def __init__(self, args: argparse.Namespace, model: nn.Module) -> None:
        self.truth = Truth(
            args.truth,
            arguments=vars(args),
            batch_size=BATCH_SIZE * args.accumulate,
            micro_batch_size=BATCH_SIZE,
            micro_steps=args.accumulate,
            tokens=LENGTH,
            parameters=sum(p.numel() for p in model.parameters()),
        )
        self.over = False
        self._args = args
        self._model = model

    def step(self) -> None:
        """An optimizer step has ended."""
        self.truth.step(BATCH_SIZE * self._args.accumulate)
        if self.truth.steps == 1:
            announce(self._args.ready)
        self.over = self.truth.steps >= self._args.steps or os.path.exists(self._args.stop)

    def finish(self, *example: Tensor, **named: Tensor) -> None:
        """Write the truth file. What is given is one batch, to see which modules are called for it."""
        self.truth.finish(
            weights_sha256=weights_sha256([self._model]),
            strangers=strangers(),
            modules=called_modules(self._model, *example, **named),
        )


def strangers() -> list[str]:
    """Modules of a monitor, and global hooks of anybody, that are in this process; none of the frameworks uses such."""
    found = [name for name in sys.modules if "torchtop" in name]
    for owner in (nn.modules.module, sys.modules["torch.optim.optimizer"]):
        found += [name for name, hooks in vars(owner).items() if name.startswith("_global_") and hooks]
    return found


def called_modules(model: nn.Module, *example: Tensor, **named: Tensor) -> list[str]:
    """Names of the modules whose forward one call of `model` runs: libraries make some that they then leave aside."""
    names: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _module, _args, name=name: names.append(name))
        for name, module in model.named_modules()
    ]
    model(*example, **named)
    for hook in hooks:
        hook.remove()
    return sorted(set(names))
