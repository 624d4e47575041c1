"""A callback in another file saves every eighth step; cured, there is no callback."""

from __future__ import annotations

import saving
import torch
from data import batches
from job import Job
from models import mlp
from torch import nn
from trainer import Trainer

if __name__ == "__main__":
    job = Job("checkpoint-stall", saving.__file__)
    model = mlp(64, 1200, 4, 10)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    callbacks = [] if job.cured else [saving.Checkpoint()]
    Trainer(job, model, optimizer, nn.CrossEntropyLoss(), callbacks).fit(batches(9600, 64, 96))
