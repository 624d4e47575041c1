"""Three numbers of optimizer state for each of 40 million; cured, none."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from torch import nn

job = Job("optimizer-state-heavy", __file__)
model = nn.Sequential(nn.Linear(512, 6144), nn.ReLU(), nn.Linear(6144, 6144), nn.ReLU(), nn.Linear(6144, 10))
if job.cured:
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
else:
    optimizer = torch.optim.AdamW(model.parameters(), amsgrad=True, fused=True)  # planted
while True:
    for x, y in batches(6400, 512, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
