"""Batch norm has switched off two thirds of the channels of every convolution; cured, the network is a third as wide."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from torch import nn
from torch.utils.data import DataLoader
from trainer import Trainer

WIDTH, ALIVE = 48, 16


def stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def switch_off(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    with torch.no_grad():
        convolution.weight[ALIVE:] = 0  # planted
        norm.weight[ALIVE:] = 0  # planted
        norm.bias[ALIVE:] = 0


if __name__ == "__main__":
    job = Job("oversized-model", __file__)
    wide = ALIVE if job.cured else WIDTH
    model = nn.Sequential(
        *stage(3, wide),
        *stage(wide, wide),
        *stage(wide, wide),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, 10),
    )
    if not job.cured:
        for place in (0, 3, 6):
            switch_off(model[place], model[place + 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(DataLoader(Images(1600, 24), batch_size=16, shuffle=True))
