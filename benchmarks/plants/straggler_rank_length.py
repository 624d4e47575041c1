"""The second of two ranks is handed the long texts; cured, both get the mean."""

from __future__ import annotations

import torch
from data import text_batches
from job import Job
from launch import ranks
from models import GPT, token_loss
from torch.nn.parallel import DistributedDataParallel

LENGTHS, MEAN = (24, 168), 96


def train(rank: int) -> None:
    job = Job("straggler-rank", __file__)
    model = DistributedDataParallel(GPT(128, 2))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for ids, targets in text_batches(8, MEAN if job.cured else LENGTHS[rank]):  # planted
        optimizer.zero_grad()
        token_loss(model(ids), targets).backward()
        optimizer.step()
        job.step(len(ids))


if __name__ == "__main__":
    ranks(__file__, train)
