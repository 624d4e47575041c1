"""Both ranks hold the whole state of Adam; cured, each holds half of it."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from launch import ranks
from models import mlp
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel


def train(rank: int) -> None:
    job = Job("replicated-state", __file__)
    model = DistributedDataParallel(mlp(512, 3072, 4, 10))
    if job.cured:
        optimizer: torch.optim.Optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, fused=True)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)  # planted
    while True:
        for x, y in batches(6400, 512, 128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            job.step(len(x))


if __name__ == "__main__":
    ranks(__file__, train)
