"""Loops whose optimizers are several, unusual, or none at all."""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from loops import LR, Run
from models import NOISE, Job
from torch import Tensor

CRITIC_STEPS = 5  # to one of the generator, in `wgan`
RENEW_EVERY = 50  # steps after which `renewed` makes a new optimizer
DECAY = 0.99  # of the moving average in `averaged`


def gan(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Two optimizers that take turns: critic, then generator."""
    truth = run.truth
    generator, critic = job.roots
    generator_optimizer = run.optimizer(generator.parameters())
    critic_optimizer = run.optimizer(critic.parameters())
    for x, _ in run.batches(feed):
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


def wgan(job: Job, feed: Iterable[Any], run: Run) -> None:
    """CRITIC_STEPS batches train the critic, whose weights are clipped; then the generator steps once."""
    truth = run.truth
    generator, critic = job.roots
    generator_optimizer = torch.optim.RMSprop(generator.parameters(), lr=1e-4)
    critic_optimizer = torch.optim.RMSprop(critic.parameters(), lr=1e-4)
    samples = 0
    losses: list[Tensor] = []
    for x, _ in run.batches(feed):
        critic_optimizer.zero_grad()
        with truth.phase("forward"):
            with torch.no_grad():
                points = generator(torch.randn(len(x), NOISE))
            critic_loss = critic(points).mean() - critic(x).mean()
        with truth.phase("backward"):
            critic_loss.backward()
        with truth.phase("optimizer"):
            critic_optimizer.step()
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-0.05, 0.05)
        samples += len(x)
        losses.append(critic_loss.detach())
        if len(losses) < CRITIC_STEPS:
            continue
        generator_optimizer.zero_grad()
        with truth.phase("forward"):
            generator_loss = -critic(generator(torch.randn(len(x), NOISE))).mean()
        with truth.phase("backward"):
            generator_loss.backward()
        with truth.phase("optimizer"):
            generator_optimizer.step()
        run.step(samples, *losses, generator_loss)
        samples = 0
        losses.clear()


def lbfgs(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Forward and backward, several times over, inside the optimizer's step."""
    truth = run.truth
    optimizer = torch.optim.LBFGS(job.model.parameters(), lr=0.05, max_iter=4, history_size=4)
    losses: list[Tensor] = []
    for x, y in run.batches(feed):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            with truth.phase("forward"):
                loss = job.loss(job.model(x), y)
            with truth.phase("backward"):
                loss.backward()
            losses.append(loss.detach())
            return loss

        with truth.around("optimizer"):
            optimizer.step(closure)
        run.step(len(x), *losses, closures=len(losses))
        losses.clear()


def by_hand(job: Job, feed: Iterable[Any], run: Run) -> None:
    """`p -= lr * p.grad`. A step ends right before the next forward: nothing before that tells it from the next."""
    truth = run.truth
    parameters: list[Any] = list(job.model.parameters())
    ended: tuple[int, Tensor] | None = None
    for x, y in run.batches(feed):
        if ended is not None:
            run.step(*ended)
            if run.over:
                break
        with truth.phase("forward"):
            loss = job.loss(job.model(x), y)
        with truth.phase("backward"):
            loss.backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter -= 0.01 * parameter.grad
                parameter.grad = None
        ended = len(x), loss


def pure_tensors(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Two matrices, no module, no optimizer: a step ends with backward, all that can be seen of it."""
    truth = run.truth
    parameters: list[Any] = [p.detach().clone().requires_grad_() for p in job.model.parameters()]
    w1, b1, w2, b2 = parameters
    for x, y in run.batches(feed):
        loss = job.loss((x @ w1.T + b1).relu() @ w2.T + b2, y)
        with truth.phase("backward"):
            loss.backward()
        run.step(None, loss)
        with torch.no_grad():
            for parameter in parameters:
                parameter -= 0.01 * parameter.grad
                parameter.grad.zero_()


def functional(job: Job, feed: Iterable[Any], run: Run) -> None:
    """torch.func: the gradient is a function of the parameters, which are in a dict; nothing is changed in place."""
    truth = run.truth
    parameters = {name: p.detach() for name, p in job.model.named_parameters()}

    def loss_of(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        with truth.phase("forward"):
            return job.loss(torch.func.functional_call(job.model, parameters, (x,)), y)

    gradient = torch.func.grad_and_value(loss_of)
    for x, y in run.batches(feed):
        with truth.around("backward"):
            gradients, loss = gradient(parameters, x, y)
        parameters = {name: p - 0.01 * gradients[name] for name, p in parameters.items()}
        run.step(len(x), loss)


def penalty(job: Job, feed: Iterable[Any], run: Run) -> None:
    """The gradient with respect to the input is part of the loss: torch.autograd.grad, and backward through it."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    for x, y in run.batches(feed):
        x.requires_grad_()
        optimizer.zero_grad()
        with truth.phase("forward"):
            out = job.model(x)
            loss = job.loss(out, y)
        with truth.phase("backward"):
            (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        with truth.phase("forward"):
            loss = loss + 0.1 * (slope.norm(dim=1) - 1).pow(2).mean()
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss)


def two_losses(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Two backward passes through one graph."""
    truth = run.truth
    optimizer = run.optimizer(job.model.parameters())
    for x, y in run.batches(feed):
        optimizer.zero_grad()
        with truth.phase("forward"):
            out = job.model(x)
            first, second = job.loss(out, y), 0.01 * out.pow(2).mean()
        with truth.phase("backward"):
            first.backward(retain_graph=True)
            second.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), first, second)


def averaged(job: Job, feed: Iterable[Any], run: Run) -> None:
    """One optimizer for matrices, one for the rest, and a moving average of the weights."""
    truth = run.truth
    average = copy.deepcopy(job.model).requires_grad_(False)
    matrices = run.optimizer([p for p in job.model.parameters() if p.dim() > 1])
    rest = torch.optim.SGD([p for p in job.model.parameters() if p.dim() <= 1], lr=LR, momentum=0.9)
    for x, y in run.batches(feed):
        matrices.zero_grad()
        rest.zero_grad()
        with truth.phase("forward"):
            loss = job.loss(job.model(x), y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            matrices.step()
            rest.step()
        run.step(len(x), loss)
        with torch.no_grad():
            for mean, now in zip(average.parameters(), job.model.parameters()):
                mean.lerp_(now, 1 - DECAY)


def renewed(job: Job, feed: Iterable[Any], run: Run) -> None:
    """A new optimizer every RENEW_EVERY steps."""
    truth = run.truth
    for x, y in run.batches(feed):
        if truth.steps % RENEW_EVERY == 0:
            optimizer = run.optimizer(job.model.parameters())
        optimizer.zero_grad()
        with truth.phase("forward"):
            loss = job.loss(job.model(x), y)
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(len(x), loss)


def in_backward(job: Job, feed: Iterable[Any], run: Run) -> None:
    """Each parameter has an optimizer of its own, which steps inside backward as soon as its gradient is there."""
    truth = run.truth
    optimizers: dict[Tensor, torch.optim.Optimizer] = {}

    def update(parameter: Tensor) -> None:
        with truth.phase("optimizer"):
            optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in job.model.parameters():
        optimizers[parameter] = torch.optim.SGD([parameter], lr=LR, momentum=0.9)
        parameter.register_post_accumulate_grad_hook(update)
    for x, y in run.batches(feed):
        with truth.phase("forward"):
            loss = job.loss(job.model(x), y)
        with truth.around("backward"):
            loss.backward()
        run.step(len(x), loss)
