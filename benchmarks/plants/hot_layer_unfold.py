"""One depthwise convolution unfolds its input into 81 copies; cured, it is the library's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from data import Images
from job import Job
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

KERNEL = 9


class Depthwise(nn.Module):
    """A kernel of its own for each channel."""

    def __init__(self, channels: int, unfold: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, KERNEL, KERNEL) / KERNEL)
        self.unfold = unfold

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if not self.unfold:
            return F.conv2d(x, self.weight, padding=KERNEL // 2, groups=channels)
        patches = F.unfold(x, KERNEL, padding=KERNEL // 2).view(batch, channels, KERNEL**2, height * width)  # planted
        return torch.einsum("bckp,ck->bcp", patches, self.weight.flatten(1)).view(x.shape)  # planted


def build(unfold: bool) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
        *(Depthwise(16, unfold), nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


def stepper(model: nn.Module) -> Callable[[Tensor, Tensor], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def train(job: Job) -> None:
    step = stepper(build(not job.cured))
    while True:
        for images, labels in DataLoader(Images(1600, 32), batch_size=16, shuffle=True):
            step(images, labels)
            job.step(len(images))


if __name__ == "__main__":
    train(Job("hot-layer", __file__))
