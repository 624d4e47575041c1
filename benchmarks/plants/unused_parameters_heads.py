"""Heads for tasks that are no longer trained, and in the optimizer still; cured, they are not there."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from models import mlp
from torch import Tensor, nn


class ManyTasks(nn.Module):
    """One body, a head for each task."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.body = mlp(128, 512, 3, 512)
        self.heads = nn.ModuleList(mlp(512, 512, 2, 10) for _ in range(tasks))

    def forward(self, x: Tensor) -> Tensor:
        return self.heads[0](self.body(x).relu())


job = Job("unused-parameters", __file__)
model = ManyTasks(1 if job.cured else 6)  # planted
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
while True:
    for x, y in batches(12_800, 128, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
