"""The model's gradients are zeroed in a function of its own, as before PyTorch 2; cured, they are dropped."""

from __future__ import annotations

from collections.abc import Callable

import torch
from job import Job
from models import Tagger, token_loss
from torch import Tensor, nn


def clearing(model: nn.Module, drop: bool) -> Callable[[], None]:
    def clear() -> None:
        model.zero_grad(set_to_none=drop)  # planted

    return clear


def train(job: Job) -> None:
    model = Tagger(words=90_000, width=160, tags=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    clear = clearing(model, job.cured)

    def step(words: Tensor) -> None:
        token_loss(model(words), words % 32).backward()
        optimizer.step()
        clear()

    while True:
        step(torch.randint(0, 90_000, (32, 16)))
        job.step(32)


if __name__ == "__main__":
    train(Job("grads-kept", __file__))
