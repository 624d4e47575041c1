"""Models that are trained against each other."""

from __future__ import annotations

import torch.nn.functional as F
from models import NOISE, STORED_BATCHES, Job, clusters, layers
from torch import Tensor, nn


class Generator(nn.Module):
    """Noise (batch, NOISE) -> points (batch, width)."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.net = layers(NOISE, hidden, hidden, width)

    def forward(self, z: Tensor) -> Tensor:
        points: Tensor = self.net(z)
        return points


class Critic(nn.Module):
    """Points (batch, width) -> logits (batch, 1) of being real."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = layers(width, hidden, hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def gan(small: bool) -> Job:
    width, hidden, batch = (16, 128, 64) if small else (64, 512, 192)
    x, y = clusters(STORED_BATCHES * batch, width)
    generator, critic = Generator(hidden, width), Critic(width, hidden)
    return Job(generator, x, y, batch, F.binary_cross_entropy_with_logits, roots=[generator, critic])


def wgan(small: bool) -> Job:
    """The same two, smaller: one step trains the critic five times."""
    width, hidden, batch = (16, 128, 64) if small else (64, 384, 96)
    x, y = clusters(STORED_BATCHES * batch, width)
    generator, critic = Generator(hidden, width), Critic(width, hidden)
    return Job(generator, x, y, batch, lambda out, _: out.mean(), roots=[generator, critic])
