"""A trainer that accumulates and knows nothing of ranks; cured, one that does. The ranks are spawned."""

from __future__ import annotations

from typing import Any

import torch
from data import batches
from job import Job
from launch import RANKS, free_port, spawned
from models import mlp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from trainer import Trainer

PARTS = 4


class Knowing(Trainer):
    """Exchanges gradients after the last part only."""

    part = 0

    def training_step(self, inputs: Any, targets: Any) -> Tensor:
        self.part += 1
        self.model.require_backward_grad_sync = self.part % PARTS == 0
        return super().training_step(inputs, targets)


def train(rank: int) -> None:
    job = Job("unsynced-accumulation")
    model = DistributedDataParallel(mlp(256, 1280, 4, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    kind = Knowing if job.cured else Trainer
    kind(job, model, optimizer, nn.CrossEntropyLoss(), accumulate=PARTS).fit(batches(6400, 256, 8))


if __name__ == "__main__":
    torch.multiprocessing.spawn(spawned, (free_port(), train), nprocs=RANKS)
