"""All word vectors are exchanged after each few sentences; cured, each rank trains its own. The ranks are spawned."""

from __future__ import annotations

import torch
from data import Text
from job import Job
from launch import RANKS, free_port, spawned
from models import Tagger, token_loss
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from trainer import Trainer


def loss(scores: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    return token_loss(scores, words % 12)


def train(rank: int) -> None:
    job = Job("comm-bound", __file__)
    model: nn.Module = Tagger(words=60_000)
    if not job.cured:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Trainer(job, model, optimizer, loss).fit(DataLoader(Text(6400, 24, 60_000), batch_size=8, shuffle=True))


if __name__ == "__main__":
    torch.multiprocessing.spawn(spawned, (free_port(), train), nprocs=RANKS)
