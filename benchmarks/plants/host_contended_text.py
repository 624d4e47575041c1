"""A healthy job of long steps with a worker; what is planted is a busy neighbour, which the benchmark starts."""

from __future__ import annotations

import torch
from data import Text
from job import Job
from models import GPT, token_loss
from torch.utils.data import DataLoader
from trainer import Trainer

if __name__ == "__main__":
    job = Job("host-contended")
    model = GPT(192, 3)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    Trainer(job, model, optimizer, token_loss).fit(DataLoader(Text(8000, 64), batch_size=16, num_workers=1))
