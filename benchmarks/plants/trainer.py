"""A small training framework, as many projects have one: a trainer, and callbacks that it calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from job import Job
from torch import Tensor, nn
from torch.optim import Optimizer


class Callback:
    """What may be done between two steps."""

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None: ...


class Trainer:
    """Fits a model to batches of (inputs, targets), epoch after epoch, until it is killed."""

    def __init__(
        self,
        job: Job,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Callable[[Any, Any], Tensor],
        callbacks: Sequence[Callback] = (),
        accumulate: int = 1,
    ) -> None:
        self.job, self.model, self.optimizer, self.loss = job, model, optimizer, loss
        self.callbacks, self.accumulate = callbacks, accumulate
        self.steps = 0

    def fit(self, loader: Iterable[Any]) -> None:
        while True:
            self.model.train()
            samples = 0
            for number, (inputs, targets) in enumerate(loader, 1):
                loss = self.training_step(inputs, targets)
                samples += len(inputs)
                if number % self.accumulate == 0:
                    self.optimizer_step(loss)
                    self.job.step(samples)
                    samples = 0

    def training_step(self, inputs: Any, targets: Any) -> Tensor:
        loss = self.loss(self.model(inputs), targets) / self.accumulate
        loss.backward()
        return loss

    def optimizer_step(self, loss: Tensor) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        for callback in self.callbacks:
            callback.on_step_end(self, loss)
