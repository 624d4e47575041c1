"""Gradients are filled with zeros, and added to; cured, they are dropped."""

from __future__ import annotations

import torch
from job import Job
from models import mlp
from torch import nn

job = Job("grads-kept", __file__)
model = mlp(2048, 2048, 4, 16)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(10**9):
    x = torch.randn(48, 2048)
    optimizer.zero_grad(set_to_none=job.cured)  # planted
    nn.functional.mse_loss(model(x), x[:, :16]).backward()
    optimizer.step()
    job.step(len(x))
