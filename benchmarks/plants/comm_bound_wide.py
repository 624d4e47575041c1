"""Eight million gradients are exchanged for sixteen rows; cured, for 16 times as many."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from launch import ranks
from models import mlp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROWS = 16


def train(rank: int) -> None:
    job = Job("comm-bound", __file__)
    model = DistributedDataParallel(mlp(512, 2048, 2, 1500))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    while True:
        for x, y in batches(6400, 512, 16 * ROWS if job.cured else ROWS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            job.step(len(x))


if __name__ == "__main__":
    ranks(__file__, train)
