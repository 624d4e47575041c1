"""The first of two ranks reads from a slow disk; cured, both from a fast one. The ranks are spawned."""

from __future__ import annotations

import time

import torch
from data import Images
from job import Job
from launch import RANKS, free_port, spawned
from models import ConvNet
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from trainer import Trainer

SLOW_READ_S = 0.004


class OnDisk(Dataset[tuple[Tensor, int]]):
    """Pictures on one disk or the other."""

    def __init__(self, read_s: float) -> None:
        self.images = Images(1600, 32)
        self.read_s = read_s

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.read_s:
            time.sleep(self.read_s)  # planted
        return self.images[index]


def train(rank: int) -> None:
    job = Job("straggler-rank", __file__)
    model = DistributedDataParallel(ConvNet(12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = DataLoader(OnDisk(SLOW_READ_S if rank == 0 and not job.cured else 0.0), batch_size=16, shuffle=True)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(loader)


if __name__ == "__main__":
    torch.multiprocessing.spawn(spawned, (free_port(), train), nprocs=RANKS)
