"""Texts of very different lengths are batched as they come; cured, they are cut into pieces of the mean length."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from job import Job
from models import GPT, token_loss
from torch import Tensor

SHORTEST, LONGEST, MEAN = 8, 384, 82


def texts(cured: bool, chance: random.Random) -> Iterator[Tensor]:
    """A few very long ones among short ones, as in a crawl."""
    while True:
        length = MEAN if cured else min(LONGEST, max(SHORTEST, int(chance.lognormvariate(3.7, 1.2))))
        yield torch.randint(0, 256, (8, length + 1))


job = Job("step-jitter", __file__)
model = GPT(128, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
for ids in texts(job.cured, random.Random(0)):
    optimizer.zero_grad()
    token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
    optimizer.step()
    job.step(len(ids))
