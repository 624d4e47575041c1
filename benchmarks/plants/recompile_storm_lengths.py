"""Every length is compiled anew, as `dynamic=False` asks; cured, all texts are of one length."""

from __future__ import annotations

import random

import torch
from job import Job
from models import GPT, token_loss

torch._dynamo.config.recompile_limit = 10_000
torch._dynamo.config.accumulated_recompile_limit = 100_000
job = Job("recompile-storm", __file__)
chance = random.Random(0)
model = GPT(128, 2, longest=4096)
compiled = torch.compile(model, backend="eager", dynamic=False)  # planted
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
while True:
    length = 64 if job.cured else chance.randrange(32, 96)
    ids = torch.randint(0, 256, (random.randrange(4, 12) if not job.cured else 8, length + 1))
    optimizer.zero_grad()
    token_loss(compiled(ids[:, :-1]), ids[:, 1:]).backward()
    optimizer.step()
    job.step(len(ids))
