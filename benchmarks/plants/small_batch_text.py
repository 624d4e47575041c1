"""Two sentences a step; cured, 32."""

from __future__ import annotations

import torch
from data import Text
from job import Job
from models import Tagger, token_loss
from torch.utils.data import DataLoader
from trainer import Trainer

if __name__ == "__main__":
    job = Job("small-batch", __file__)
    model = Tagger(words=256, width=128, tags=256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(Text(20_000, 24), batch_size=32 if job.cured else 2, shuffle=True)
    Trainer(job, model, optimizer, token_loss).fit(loader)
