"""Batch norm has switched off two thirds of the channels of every convolution; cured, the network is a third as wide."""

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
    job = Job("oversized-model", __file__)
    wide = ALIVE if job.cured else WIDTH
    model = nn.Sequential(
        *convolution(3, wide),
        *convolution(wide, wide),
        *convolution(wide, wide),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, 10),
    )
    if not job.cured:
        for place in (0, 3, 6):
            switch_off(model[place], model[place + 1], ALIVE)  # planted
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(DataLoader(Images(1600, 24), batch_size=16, shuffle=True))
