"""Adam goes five times through eleven million parameters; cured, it is fused and goes through them once."""

from __future__ import annotations

import torch
from data import Text
from job import Job
from models import Tagger, token_loss
from torch.utils.data import DataLoader
from trainer import Trainer

if __name__ == "__main__":
    job = Job("unfused-optimizer", __file__)
    model = Tagger(words=80_000, width=128, tags=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=job.cured)  # planted

    def loss(scores: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return token_loss(scores, words % 64)

    loader = DataLoader(Text(6400, 32, 80_000), batch_size=32, shuffle=True)
    Trainer(job, model, optimizer, loss).fit(loader)
