"""All is saved every tenth step; cured, never."""

from __future__ import annotations

import os
import tempfile

import torch
from job import Job
from torch import nn

EVERY = 10
job = Job("checkpoint-stall", __file__)
model = nn.Sequential(nn.EmbeddingBag(150_000, 128, sparse=True), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
path = os.path.join(tempfile.gettempdir(), f"latest-{os.getpid()}.pt")
step = 0
while True:
    step += 1
    words = torch.randint(0, 150_000, (512, 20))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(words), words[:, 0] % 10)
    loss.backward()
    optimizer.step()
    if step % EVERY == 0 and not job.cured:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)  # planted
    job.step(len(words))
