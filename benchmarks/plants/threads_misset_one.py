"""One thread for large products while the other cores have nothing to do; cured, one thread for each core."""

from __future__ import annotations

import os

import torch
from data import Text
from job import Job
from models import GPT, token_loss
from torch.utils.data import DataLoader
from trainer import Trainer

if __name__ == "__main__":
    job = Job("threads-misset", __file__)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if job.cured else 1)  # planted
    model = GPT(384, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    Trainer(job, model, optimizer, token_loss).fit(DataLoader(Text(1600, 128), batch_size=8, shuffle=True))
