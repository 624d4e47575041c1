"""Training loops as people write them, with the truth's phases around their parts.

A step ends where torchtop says it does: with the optimizer's step, or, where there is none, with the forward.
"""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from models import Job
from planted import adamw, seconds_in, write_log
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from truth import Truth, announce

LR = 1e-3
VALIDATE_EVERY = 20  # steps
SAVE_EVERY = 25  # steps
Loader = DataLoader[Any]
Loop = Callable[[Job, Iterable[Any], "Run"], None]


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

    def batches(self, feed: Iterable[Any]) -> Iterator[Any]:
        """Every batch, epoch after epoch, until the last step.

        Waiting for a DataLoader is data, and so is starting an epoch of one; slices made by hand are not.
        """
        truth = self.truth
        name = "data" if isinstance(feed, DataLoader) else "slices"
        truth.begin()
        while not self.over:
            with truth.phase(name):
                epoch = iter(feed)
            self._first_of_epoch = name == "data"
            while not self.over:
                with truth.phase(name):
                    batch = next(epoch, None)
                if batch is None:
                    break
                yield batch

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        return adamw(parameters, LR, seconds_in("optimizer", self.slow, self.slow_s))

    def step(self, samples: int | None, *losses: Tensor, **marks: object) -> None:
        """End the step here and now, then do what scripts do after one: read the loss, write a log."""
        self.truth.step(samples, first_of_epoch=self._first_of_epoch, **marks)
        self._first_of_epoch = False
        for loss in losses:
            self.truth.loss(loss.item())
        write_log(seconds_in("logging", self.slow, self.slow_s))
        if self.truth.steps == 1:
            announce(self.ready)
        self.over = self.truth.steps >= self.steps or (self.stop is not None and os.path.exists(self.stop))


def plain(job: Job, feed: Iterable[Any], run: Run) -> None:
    """One batch, one optimizer step."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    for x, y in run.batches(feed):
        optimizer.zero_grad()
        with truth.phase("forward"):
            out = job.model(x)
            loss = job.loss(out, y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss)


def accumulate(micro_steps: int) -> Loop:
    """So many batches to one optimizer step."""

    def loop(job: Job, feed: Iterable[Any], run: Run) -> None:
        truth = run.truth
        optimizer = run.optimizer(job.model.parameters())
        losses: list[Tensor] = []
        samples = 0
        for x, y in run.batches(feed):
            with truth.phase("forward"):
                out = job.model(x)
                loss = job.loss(out, y) / micro_steps
            with truth.phase("backward"):
                loss.backward()
            losses.append(loss.detach())
            samples += len(x)
            if len(losses) < micro_steps:
                continue
            with truth.phase("optimizer"):
                optimizer.step()
            run.step(samples, *losses)
            optimizer.zero_grad()
            losses.clear()
            samples = 0

    return loop


def autocast(job: Job, feed: Iterable[Any], run: Run) -> None:
    """bfloat16 with a loss scale that keeps growing until gradients overflow: such steps are skipped."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**119, growth_interval=20)
    skipped = 0
    for x, y in run.batches(feed):
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


def validated(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Looks at held-out data, through a DataLoader of its own, in one step of VALIDATE_EVERY."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    held_out: Loader = DataLoader(TensorDataset(job.x[:64], job.y[:64]), batch_size=32)
    for x, y in run.batches(feed):
        validates = truth.steps % VALIDATE_EVERY == VALIDATE_EVERY - 1
        if validates:
            validate(job, held_out, truth)
        optimizer.zero_grad()
        with truth.phase("forward"):
            loss = job.loss(job.model(x), y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss, validation=validates)


def validate(job: Job, held_out: Loader, truth: Truth) -> None:
    """One pass over the held-out batches; its samples are not trained on."""
    job.model.eval()
    with torch.no_grad():
        with truth.phase("data"):
            epoch = iter(held_out)
        while True:
            with truth.phase("data"):
                batch = next(epoch, None)
            if batch is None:
                break
            with truth.phase("forward"):
                out = job.model(batch[0])
            truth.loss(job.loss(out, batch[1]).item())
    job.model.train()


def saved(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Writes a checkpoint in one step of SAVE_EVERY."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    for x, y in run.batches(feed):
        saves = truth.steps % SAVE_EVERY == SAVE_EVERY - 1
        if saves:
            torch.save(job.model.state_dict(), truth.path + ".checkpoint")
        optimizer.zero_grad()
        with truth.phase("forward"):
            loss = job.loss(job.model(x), y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss, checkpoint=saves)


def halves(job: Job, feed: Iterable[Any], run: Run) -> None:
    """The model is used through methods other than forward."""
    truth = run.truth
    model: Any = job.model
    optimizer = run.optimizer(model.parameters())
    for x, y in run.batches(feed):
        optimizer.zero_grad()
        with truth.phase("forward"):
            loss = job.loss(model.classify(model.encode(x)), y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss)


def finetune(job: Job, feed: Iterable[Any], run: Run) -> None:
    """A frozen backbone in eval mode feeds a head; gradients are clipped, the learning rate follows a schedule."""
    truth = run.truth
    backbone, head = job.roots
    backbone.eval().requires_grad_(False)
    optimizer = run.optimizer(head.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for x, y in run.batches(feed):
        with truth.phase("forward"):
            with torch.no_grad():
                codes = backbone(x)
            loss = job.loss(head(codes), y)
        with truth.phase("backward"):
            loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss)
        schedule.step()
        optimizer.zero_grad()
