"""Seven million weights for a rule of eight numbers; cured, five hundred times fewer, which learn it as well."""

from __future__ import annotations

import torch
from job import Job
from models import mlp
from torch import nn

job = Job("oversized-model", __file__)
x = torch.randn(2000, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
model = mlp(8, 64 if job.cured else 1536, 4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
while True:
    order = torch.randperm(len(x))
    for rows in order.split(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        job.step(len(rows))
