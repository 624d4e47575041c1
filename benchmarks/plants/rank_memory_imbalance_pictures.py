"""The second spawned rank decoded all pictures of its shard beforehand; cured, it decodes them as the first does."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from launch import RANKS, free_port, spawned
from models import ConvNet
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from trainer import Trainer


class Shard(Images):
    """Pictures, decoded beforehand or not."""

    def __init__(self, rank: int, decode: bool) -> None:
        super().__init__(1600, 32)
        if decode:
            self.decoded = self.images.repeat(2500, 1, 1, 1)  # planted


def train(rank: int) -> None:
    job = Job("rank-memory-imbalance", __file__)
    model = DistributedDataParallel(ConvNet(12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = DataLoader(Shard(rank, rank == 1 and not job.cured), batch_size=16, shuffle=True)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(loader)


if __name__ == "__main__":
    torch.multiprocessing.spawn(spawned, (free_port(), train), nprocs=RANKS)
