"""REINFORCE in an environment of our own: many forwards of one state each, then one backward and one step."""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from loops import LR, Run
from models import Job, layers
from torch import Tensor, nn

STATE = 6
ACTIONS = 3
EPISODE = 48  # moves


class Line:
    """A point on a line that is to be kept near zero by pushing it left, right, or not at all."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.place = torch.zeros(())
        self.speed = torch.zeros(())

    def reset(self) -> Tensor:
        """The first state: (1, STATE)."""
        self.place, self.speed = torch.randn(2, generator=self.generator).unbind()
        return self.state()

    def state(self) -> Tensor:
        place, speed = self.place, self.speed
        return torch.stack([place, speed, place * speed, place.abs(), speed.abs(), torch.ones(())]).unsqueeze(0)

    def move(self, action: int) -> tuple[Tensor, float]:
        """(state, reward) after an action."""
        self.speed = 0.9 * self.speed + 0.2 * (action - 1)
        self.place = self.place + 0.1 * self.speed
        return self.state(), -float(self.place.abs())


def policy(small: bool) -> Job:
    """States (1, STATE) -> logits of the actions."""
    width = 16 if small else 128
    return Job(layers(STATE, width, width, ACTIONS), torch.empty(1, STATE), torch.empty(1), 1, nn.functional.mse_loss)


def reinforce(job: Job, _feed: Iterable[Any], run: Run) -> None:
    """A greedy episode without gradients is the baseline of a sampled one with them."""
    truth = run.truth
    optimizer = torch.optim.Adam(job.model.parameters(), lr=LR)
    environment = Line(torch.Generator().manual_seed(0))
    truth.begin()
    while not run.over:
        baseline = 0.0
        state = environment.reset()
        with torch.no_grad():
            for _ in range(EPISODE):
                with truth.phase("forward"):
                    logits = job.model(state)
                state, reward = environment.move(int(logits.argmax()))
                baseline += reward
        total = 0.0
        chosen: list[Tensor] = []
        state = environment.reset()
        for _ in range(EPISODE):
            with truth.phase("forward"):
                logits = job.model(state)
            likelihood = torch.distributions.Categorical(logits=logits)
            action = likelihood.sample()
            chosen.append(likelihood.log_prob(action))
            state, reward = environment.move(int(action))
            total += reward
        optimizer.zero_grad()
        with truth.phase("forward"):
            loss = -(total - baseline) * torch.cat(chosen).sum()
        with truth.phase("backward"):
            loss.backward()
        with truth.phase("optimizer"):
            optimizer.step()
        run.step(None, loss)
