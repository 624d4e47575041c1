"""A narrow network for a very large batch of points: what is kept for backward is all; cured, by sixteenths."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from models import mlp
from torch import nn
from trainer import Trainer

POINTS = 65_536

if __name__ == "__main__":
    job = Job("activation-heavy", __file__)
    model = mlp(6, 48, 14, 4)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    parts = 16 if job.cured else 1
    points = [(x, y) for x, y in batches(POINTS, 6, POINTS // parts, classes=4)]
    Trainer(job, model, optimizer, nn.CrossEntropyLoss(), accumulate=parts).fit(points)
