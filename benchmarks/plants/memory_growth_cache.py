"""Every batch is remembered by its number, which never comes again; cured, nothing is remembered."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import ConvNet
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainer import Callback, Trainer


class FeatureCache(Callback):
    """The features of the last batch, for whoever asks for them."""

    def __init__(self) -> None:
        self.features: dict[int, Tensor] = {}

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        self.features[trainer.steps] = torch.randn(16, 5, 32, 32)  # planted


if __name__ == "__main__":
    job = Job("memory-growth", __file__)
    model = ConvNet(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    callbacks = [] if job.cured else [FeatureCache()]
    loader = DataLoader(Images(1600, 32), batch_size=16, shuffle=True)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss(), callbacks).fit(loader)
