"""Gradients of eight small batches are added up, and exchanged after each; cured, after the last."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from data import text_batches
from job import Job
from launch import ranks
from models import GPT, token_loss
from torch.nn.parallel import DistributedDataParallel

PARTS = 8


def train(rank: int) -> None:
    job = Job("unsynced-accumulation", __file__)
    model = DistributedDataParallel(GPT(256, 3))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    text = text_batches(2, 32)
    while True:
        optimizer.zero_grad()
        for part in range(PARTS):
            ids, targets = next(text)
            with model.no_sync() if job.cured and part + 1 < PARTS else nullcontext():
                loss = token_loss(model(ids), targets) / PARTS
                loss.backward()  # planted
        optimizer.step()
        job.step(2 * PARTS)


if __name__ == "__main__":
    ranks(__file__, train)
