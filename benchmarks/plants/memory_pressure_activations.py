"""Batches so large that what backward needs all but fills the memory; cured, an eighth of it, eight times."""

from __future__ import annotations

import torch
from data import rows
from job import Job
from torch import nn
from trainer import Trainer

BATCH, WIDTH, BLOCKS = 16_384, 128, 10

if __name__ == "__main__":
    job = Job("memory-pressure", __file__)
    model = nn.Sequential(
        *(layer for _ in range(BLOCKS) for layer in (nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU())),
        nn.Linear(WIDTH, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    parts = 8 if job.cured else 1
    loader = list(zip(*(each.split(BATCH // parts) for each in rows(BATCH, WIDTH).tensors), strict=True))
    Trainer(job, model, optimizer, nn.CrossEntropyLoss(), accumulate=parts).fit(loader)
