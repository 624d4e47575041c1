"""Training loops as people write them, with the truth's phases around their parts.

A step ends where torchtop says it does: with the optimizer's step, or, where there is none, with the forward.
"""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from models import NOISE, Job
from planted import adamw, seconds_in, write_log
from torch import Tensor
from torch.utils.data import DataLoader
from truth import Truth, announce

MICRO_STEPS = 4
LR = 1e-3
Loader = DataLoader[tuple[Tensor, Tensor]]


class Run:
    """How long to train, where to sleep, and what to tell the truth."""

    def __init__(
        self,
        truth: Truth,
        steps: int,
        slow: str | None = None,
        slow_s: float = 0.0,
        ready: str | None = None,
        stop: str | None = None,
    ) -> None:
        self.truth = truth
        self.steps = steps
        self.slow = slow
        self.slow_s = slow_s
        self.ready = ready
        self.stop = stop
        self.over = steps <= 0
        self._first_of_epoch = False

    def batches(self, loader: Loader) -> Iterator[Any]:
        """Every batch, epoch after epoch, until the last step; starting an epoch counts as data too."""
        self.truth.begin()
        while not self.over:
            with self.truth.phase("data"):
                epoch = iter(loader)
            self._first_of_epoch = True
            while not self.over:
                with self.truth.phase("data"):
                    batch = next(epoch, None)
                if batch is None:
                    break
                yield batch

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        return adamw(parameters, LR, seconds_in("optimizer", self.slow, self.slow_s))

    def step(self, samples: int, *losses: Tensor, **marks: object) -> None:
        """End the step here and now, then do what scripts do after one: read the loss, write a log."""
        self.truth.step(samples, first_of_epoch=self._first_of_epoch, **marks)
        self._first_of_epoch = False
        for loss in losses:
            self.truth.loss(loss.item())
        write_log(seconds_in("logging", self.slow, self.slow_s))
        if self.truth.steps == 1:
            announce(self.ready)
        self.over = self.truth.steps >= self.steps or (self.stop is not None and os.path.exists(self.stop))


def plain(job: Job, loader: Loader, run: Run) -> None:
    """One batch, one optimizer step."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    for x, y in run.batches(loader):
        optimizer.zero_grad()
        with truth.phase("forward"):
            out = job.model(x)
            loss = job.loss(out, y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss)


def accumulate(job: Job, loader: Loader, run: Run) -> None:
    """MICRO_STEPS batches to one optimizer step."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    losses: list[Tensor] = []
    samples = 0
    for x, y in run.batches(loader):
        with truth.phase("forward"):
            out = job.model(x)
            loss = job.loss(out, y) / MICRO_STEPS
        with truth.phase("backward"):
            loss.backward()
        losses.append(loss.detach())
        samples += len(x)
        if len(losses) < MICRO_STEPS:
            continue
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(samples, *losses)
        optimizer.zero_grad()
        losses.clear()
        samples = 0


def autocast(job: Job, loader: Loader, run: Run) -> None:
    """bfloat16 with a loss scale that keeps growing until gradients overflow: such steps are skipped."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**119, growth_interval=20)
    skipped = 0
    for x, y in run.batches(loader):
        optimizer.zero_grad()
        with truth.phase("forward"), torch.autocast("cpu", dtype=torch.bfloat16):
            out = job.model(x)
            loss = job.loss(out, y)
        with truth.phase("backward"):
            scaler.scale(loss).backward()
        with truth.phase("optimizer"):
            scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        overflow = scaler.get_scale() < before
        skipped += overflow
        run.step(len(x), loss, skipped=overflow)
    truth.facts["skipped"] = skipped


def inference(job: Job, loader: Loader, run: Run) -> None:
    """No optimizer and no gradients; the loss is only looked at."""
    truth = run.truth
    job.model.eval()
    with torch.inference_mode():
        for x, y in run.batches(loader):
            with truth.phase("forward"):
                out = job.model(x)
            run.step(len(x), job.loss(out, y))


def gan(job: Job, loader: Loader, run: Run) -> None:
    """Two optimizers that take turns: critic, then generator."""
    truth = run.truth
    generator, critic = job.roots
    generator_optimizer = run.optimizer(generator.parameters())
    critic_optimizer = run.optimizer(critic.parameters())
    for x, _ in run.batches(loader):
        real, fake = torch.full((len(x), 1), 0.9), torch.full((len(x), 1), 0.1)
        critic_optimizer.zero_grad()
        with truth.phase("forward"):
            points = generator(torch.randn(len(x), NOISE))
            critic_loss = job.loss(critic(x), real) + job.loss(critic(points.detach()), fake)
        with truth.phase("backward"):
            critic_loss.backward()
        with truth.phase("optimizer"):
            critic_optimizer.step()

        generator_optimizer.zero_grad()
        with truth.phase("forward"):
            generator_loss = job.loss(critic(points), real)
        with truth.phase("backward"):
            generator_loss.backward()
        with truth.phase("optimizer"):
            generator_optimizer.step()
        run.step(len(x), critic_loss, generator_loss)
