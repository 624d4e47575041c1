"""A healthy job under Lightning's trainer, where that is installed."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from data import batches
from job import Job
from models import mlp
from torch import Tensor
from torch.nn import functional as F


class Classifier(lightning.LightningModule):
    """As its documents show it."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job, self.model = job, mlp(256, 768, 4, 10)

    def training_step(self, batch: Any, number: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.model(x), y)
        self.log("loss", loss)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.job.step(128)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


if __name__ == "__main__":
    trainer = lightning.Trainer(
        max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
    )
    trainer.fit(Classifier(Job(None)), batches(25_600, 256, 128))
