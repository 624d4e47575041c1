"""A data set that all but fills the memory it was given; cured, a small one."""

from __future__ import annotations

import torch
from job import Job
from models import mlp
from torch import nn

ROWS, INPUTS, BATCH = 270_000, 1024, 128
job = Job("memory-pressure", __file__)
x = torch.randn(ROWS // 50 if job.cured else ROWS, INPUTS)  # planted
model = mlp(INPUTS, 512, 3, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for begin in range(0, len(x) - BATCH, BATCH):
        batch = x[begin : begin + BATCH]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), batch[:, 0].long() % 10).backward()
        optimizer.step()
        job.step(BATCH)
