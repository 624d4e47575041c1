"""One row a step; cured, 64."""

from __future__ import annotations

import torch
from data import rows
from job import Job
from models import mlp
from torch import nn
from torch.utils.data import DataLoader

job = Job("small-batch", __file__)
model = mlp(256, 512, 6, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for x, y in DataLoader(rows(20_000, 256), batch_size=64 if job.cured else 1, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
