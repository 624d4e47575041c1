"""Half of the neurons of two layers are dead: weights of zero behind a ReLU, so they stay; cured, they are not there."""

from __future__ import annotations

import torch
from data import batches
from job import Job
from torch import nn

WIDTH = 768


def kill_half(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight[::2] = 0  # planted
        layer.bias[::2] = 0  # planted


job = Job("prunable-layers", __file__)
wide = WIDTH // 2 if job.cured else WIDTH
model = nn.Sequential(
    *(nn.Linear(128, WIDTH), nn.ReLU(), nn.Linear(WIDTH, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU()),
    *(nn.Linear(wide, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)),
)
if not job.cured:
    kill_half(model[2])
    kill_half(model[4])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for x, y in batches(12_800, 128, 128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
