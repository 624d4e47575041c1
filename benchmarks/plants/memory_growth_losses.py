"""Every fourth loss is kept with all that made it, for a mean at the end of the epoch; cured, only its number is."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn

job = Job("memory-growth", __file__)
model = mlp(128, 1536, 3, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
losses: list[torch.Tensor] = []
while True:
    for number, (x, y) in enumerate(batches(6400, 128, 64)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward(retain_graph=not job.cured)
        optimizer.step()
        if number % 4 == 0:
            losses.append(loss.detach() if job.cured else loss)  # planted
        job.step(len(x))
