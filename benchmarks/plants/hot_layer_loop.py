"""One layer goes through time in Python, step by step; cured, it is one cumulative sum."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from torch import Tensor, nn


class Smooth(nn.Module):
    """Running mean along each row."""

    def __init__(self, in_python: bool) -> None:
        super().__init__()
        self.in_python = in_python

    def forward(self, x: Tensor) -> Tensor:
        if not self.in_python:
            return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)
        total, means = torch.zeros(len(x)), []
        for place in range(x.shape[1]):  # planted
            total = total + x[:, place]  # planted
            means.append(total / (place + 1))  # planted
        return torch.stack(means, 1)


job = Job("hot-layer", __file__)
model = nn.Sequential(
    nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 512), Smooth(not job.cured), nn.Linear(512, 256), nn.Linear(256, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for x, y in batches(12_800, 128, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
