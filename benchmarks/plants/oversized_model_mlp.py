"""A penalty has switched off seven of eight units of every hidden layer; cured, the network is an eighth as wide."""

from __future__ import annotations

import torch
from job import Job
from models import mlp
from torch import nn

WIDTH, ALIVE = 1536, 192

job = Job("oversized-model", __file__)
x = torch.randn(2000, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
model = mlp(8, ALIVE if job.cured else WIDTH, 4, 2)
if not job.cured:
    with torch.no_grad():
        for layer in [one for one in model.modules() if isinstance(one, nn.Linear)][:-1]:
            layer.weight[ALIVE:] = 0  # planted
            layer.bias[ALIVE:] = 0
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
while True:
    order = torch.randperm(len(x))
    for rows in order.split(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        job.step(len(rows))
