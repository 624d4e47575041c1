"""Both spawned ranks hold three numbers of Adam for every weight of a language model; cured, each holds half."""

from __future__ import annotations

import torch
from data import Text
from job import Job
from launch import RANKS, free_port, spawned
from models import GPT, token_loss
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from trainer import Trainer


def train(rank: int) -> None:
    job = Job("replicated-state", __file__)
    model = DistributedDataParallel(GPT(512, 8))
    adam, settings = torch.optim.Adam, {"amsgrad": True, "fused": True}
    if job.cured:
        optimizer: torch.optim.Optimizer = ZeroRedundancyOptimizer(model.parameters(), adam, **settings)
    else:
        optimizer = adam(model.parameters(), **settings)  # planted
    Trainer(job, model, optimizer, token_loss).fit(DataLoader(Text(1600, 64), batch_size=8, shuffle=True))


if __name__ == "__main__":
    torch.multiprocessing.spawn(spawned, (free_port(), train), nprocs=RANKS)
