"""Batches so large that what backward needs all but fills the memory; cured, a quarter of it, four times."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import ConvNet
from torch import nn
from torch.utils.data import DataLoader
from trainer import Trainer

BATCH = 208

if __name__ == "__main__":
    job = Job("memory-pressure", __file__)
    model = ConvNet(16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    parts = 8 if job.cured else 1
    loader = DataLoader(Images(BATCH * 8, 64), batch_size=BATCH // parts, shuffle=True, drop_last=True)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss(), accumulate=parts).fit(loader)
