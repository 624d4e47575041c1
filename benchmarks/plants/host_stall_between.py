"""A training step that counts, between its forward and its backward pass, how often each class was mistaken for which."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from data import rows
from job import Job
from models import mlp
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainer import Trainer

CLASSES = 50


def count_mistakes(scores: Tensor, targets: Tensor) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for row, target in zip(scores.tolist(), targets.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=row.__getitem__)  # planted
        found.update((target, place) for place in ranked[-5:])  # planted
    return found


class Counting(Trainer):
    def log_metrics(self, scores: Tensor, targets: Tensor) -> None:
        self.mistakes = count_mistakes(scores, targets)

    def training_step(self, inputs: Any, targets: Any) -> Tensor:
        scores = self.model(inputs)
        if not self.job.cured:
            self.log_metrics(scores.detach(), targets)  # planted
        loss = self.loss(scores, targets)
        loss.backward()
        return loss


if __name__ == "__main__":
    job = Job("host-stall", __file__)
    model = mlp(128, 256, 3, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = DataLoader(rows(25_600, 128, CLASSES), batch_size=256, shuffle=True)
    Counting(job, model, optimizer, nn.CrossEntropyLoss()).fit(loader)
