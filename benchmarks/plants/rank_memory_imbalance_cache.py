"""The first rank keeps the validation set of all ranks; cured, nobody does."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from launch import ranks
from models import mlp
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def train(rank: int) -> None:
    job = Job("rank-memory-imbalance", __file__)
    validation = torch.randn(400_000, 1024) if rank == 0 and not job.cured else torch.randn(400, 1024)  # planted
    model = DistributedDataParallel(mlp(256, 512, 3, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    while len(validation):
        for x, y in batches(6400, 256, 128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            job.step(len(x))


if __name__ == "__main__":
    ranks(__file__, train)
