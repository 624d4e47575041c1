"""A healthy job; what is planted is a busy neighbour, which the benchmark starts."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn

job = Job("host-contended")
model = mlp(128, 512, 4, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for x, y in batches(12_800, 128, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
