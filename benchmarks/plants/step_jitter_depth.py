"""A model thinks for as many rounds as chance says, 1 to 24; cured, always for the mean."""

from __future__ import annotations

import random

import torch
from data import batches
from job import Job
from torch import Tensor, nn
from trainer import Trainer

MOST = 24


class Ponder(nn.Module):
    """The same cell again and again."""

    def __init__(self, width: int, rounds: int | None) -> None:
        super().__init__()
        self.enter, self.cell, self.leave = nn.Linear(64, width), nn.GRUCell(width, width), nn.Linear(width, 10)
        self.rounds, self.chance = rounds, random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        x = state = torch.tanh(self.enter(x))
        for _ in range(self.rounds or min(MOST, int(self.chance.paretovariate(0.9)))):
            state = self.cell(x, state)
        return self.leave(state)


if __name__ == "__main__":
    job = Job("step-jitter", __file__)
    model = Ponder(256, 4 if job.cured else None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(batches(6400, 64, 64))
