"""A data set larger than the memory that it was given; cured, a small one."""

from __future__ import annotations

import torch
from job import Job
from models import mlp
from torch import nn

ROWS, INPUTS, BATCH = 250_000, 1024, 256
job = Job("swapping", __file__)
x = torch.randn(ROWS // 50 if job.cured else ROWS, INPUTS)  # planted
model = mlp(INPUTS, 384, 2, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for rows in torch.randperm(len(x)).split(BATCH):
        batch = x[rows]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), batch[:, 0].long() % 10).backward()
        optimizer.step()
        job.step(len(batch))
