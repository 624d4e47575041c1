"""A language model whose Adam state is the most of its memory; cured, plain SGD."""

from __future__ import annotations

import torch
from data import Text
from job import Job
from models import GPT, token_loss
from torch.utils.data import DataLoader
from trainer import Trainer

if __name__ == "__main__":
    job = Job("optimizer-state-heavy", __file__)
    model = GPT(512, 8)
    if job.cured:
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    else:
        optimizer = torch.optim.Adam(model.parameters(), amsgrad=True, fused=True)  # planted
    Trainer(job, model, optimizer, token_loss).fit(DataLoader(Text(1600, 64), batch_size=4, shuffle=True))
