"""The weights are written as JSON after each step; cured, they are not."""

from __future__ import annotations

import json
import os

import torch
from data import text_batches
from job import Job
from models import GPT, token_loss

job = Job("host-stall", __file__)
model = GPT(128, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
sink = open(os.devnull, "w")  # noqa: SIM115
for ids, targets in text_batches(16, 64):
    optimizer.zero_grad(set_to_none=True)
    loss = token_loss(model(ids), targets)
    loss.backward()
    optimizer.step()
    if not job.cured:
        row = {"loss": loss.item(), "head": model.head.weight.tolist()}
        sink.write(json.dumps(row) + "\n")  # planted
    job.step(len(ids))
