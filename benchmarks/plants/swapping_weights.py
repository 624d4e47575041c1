"""A model and its Adam state that do not fit into the memory given; cured, a narrower one."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn
from trainer import Trainer

if __name__ == "__main__":
    job = Job("swapping", __file__)
    model = mlp(256, 2048 if job.cured else 4800, 4, 10)  # planted
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(batches(6400, 256, 64))
