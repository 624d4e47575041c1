"""AdamW goes through 240 small tensors one by one; cured, it is fused."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn

job = Job("unfused-optimizer", __file__)
model = mlp(64, 64, 120, 10)
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.orthogonal_(layer.weight, 1.4)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=job.cured)  # planted
while True:
    for x, y in batches(6400, 64, 64):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        job.step(len(x))
