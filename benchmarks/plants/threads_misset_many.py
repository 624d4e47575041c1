"""Eight threads, as the script was written on a larger machine; cured, PyTorch has as many as there are cores."""

from __future__ import annotations

import os

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn

job = Job("threads-misset", __file__)
torch.set_num_threads(len(os.sched_getaffinity(0)) if job.cured else 8)  # planted
model = mlp(256, 768, 4, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
while True:
    for x, y in batches(12_800, 256, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
