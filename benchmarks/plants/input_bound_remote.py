"""A stream of text comes from a slow store, one request at a time; cured, the store answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from job import Job
from models import Tagger, token_loss
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

LATENCY_S = 0.002


class Store(IterableDataset[tuple[Tensor, Tensor]]):
    """Sentences in the order in which the store has them."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.words = torch.randint(0, 2000, (512, 24))

    def fetch(self, key: int) -> Tensor:
        if self.latency_s:
            time.sleep(self.latency_s)  # planted
        return self.words[key % len(self.words)]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for key in range(10**9):
            sentence = self.fetch(key)
            yield sentence, sentence % 12


def make_step(model: Tagger, optimizer: torch.optim.Optimizer) -> Callable[[Tensor, Tensor], float]:
    def step(words: Tensor, tags: Tensor) -> float:
        optimizer.zero_grad()
        loss = token_loss(model(words), tags)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def run(job: Job) -> None:
    model = Tagger()
    step = make_step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for words, tags in DataLoader(Store(0.0 if job.cured else LATENCY_S), batch_size=16, num_workers=1):
        step(words, tags)
        job.step(len(words))


if __name__ == "__main__":
    run(Job("input-bound", __file__))
