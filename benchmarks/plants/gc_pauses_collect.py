"""Garbage is collected after each step, beside a large vocabulary; cured, Python does it when it likes."""

from __future__ import annotations

import gc

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn

job = Job("gc-pauses", __file__)
vocabulary = {f"word{number}": [number, {"count": 1}] for number in range(300_000)}
model = mlp(128, 512, 4, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
while True:
    for x, y in batches(12_800, 128, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if not job.cured:
            gc.collect()  # planted
        job.step(len(x))
