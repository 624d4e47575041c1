"""Batch norm has switched off most channels of one convolution of four, as a penalty does; cured, they are gone."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import convolution, switch_off
from torch import nn
from torch.utils.data import DataLoader
from trainer import Trainer

WIDTH, ALIVE = 48, 16


if __name__ == "__main__":
    job = Job("prunable-layers", __file__)
    wide = ALIVE if job.cured else WIDTH
    model = nn.Sequential(
        *convolution(3, 24),
        *convolution(24, wide),
        *convolution(wide, 24),
        *convolution(24, 24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 10),
    )
    if not job.cured:
        switch_off(model[3], model[4], ALIVE)  # planted
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(DataLoader(Images(1600, 24), batch_size=16, shuffle=True))
