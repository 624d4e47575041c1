"""Jobs with nothing wrong, of different shapes: python healthy.py gpt.

On a CPU with one thread AdamW is fused and batches are of a size at which larger ones are no faster per sample.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable

import torch
from data import Images, Text, batches, rows, text_batches
from job import Job
from launch import ranks
from models import GPT, ConvNet, Tagger, mlp, token_loss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from trainer import Callback, Trainer


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def plain_mlp() -> None:
    job, model = Job(None), mlp(256, 768, 4, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    while True:
        for x, y in batches(12_800, 256, 128):
            learn(model, optimizer, x, y)
            job.step(len(x))


def gpt() -> None:
    """AdamW as it comes: its share is small."""
    job, model = Job(None), GPT(192, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100_000)
    for step, (ids, targets) in enumerate(text_batches(16, 128)):
        loss = token_loss(model(ids), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"{step} {loss.item():.3f}")
        job.step(len(ids))


def convolutions() -> None:
    model = ConvNet(16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(Images(3200, 32), batch_size=32, shuffle=True)
    Trainer(Job(None), model, optimizer, nn.CrossEntropyLoss()).fit(loader)


def recurrent() -> None:
    model = Tagger(words=256, tags=256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Trainer(Job(None), model, optimizer, token_loss).fit(DataLoader(Text(9600, 32), batch_size=48, shuffle=True))


def accumulating() -> None:
    model = GPT(160, 3)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loader = DataLoader(Text(6400, 96), batch_size=8, shuffle=True)
    Trainer(Job(None), model, optimizer, token_loss, accumulate=6).fit(loader)


def with_workers() -> None:
    """One worker, which has less to do than the training."""
    model = ConvNet(24)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(Images(6400, 40), batch_size=32, shuffle=True, num_workers=1, persistent_workers=True)
    Trainer(Job(None), model, optimizer, nn.CrossEntropyLoss()).fit(loader)


def frozen_backbone() -> None:
    job, backbone, head = Job(None), ConvNet(24), nn.Linear(96, 10)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    backbone.head = nn.Identity()
    model = nn.Sequential(backbone, head)
    backbone.eval()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    while True:
        for images, labels in DataLoader(Images(1600, 32), batch_size=32, shuffle=True):
            learn(model, optimizer, images, labels)
            job.step(len(images))


def validating() -> None:
    """A pass over held-out rows each 40 steps."""
    job, model = Job(None), mlp(256, 640, 4, 10)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    held_out = DataLoader(rows(1280, 256), batch_size=256)
    step = 0
    while True:
        for x, y in batches(12_800, 256, 128):
            learn(model, optimizer, x, y)
            step += 1
            if step % 40 == 0:
                model.eval()
                with torch.no_grad():
                    right = sum((model(a).argmax(1) == b).sum().item() for a, b in held_out)
                model.train()
                print(f"{step} {right / 1280:.3f}")
            job.step(len(x))


class Rarely(Callback):
    """Saves each 300 steps."""

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        if trainer.steps % 300 == 0:
            torch.save(trainer.model.state_dict(), os.path.join(tempfile.gettempdir(), f"rarely-{os.getpid()}.pt"))


def saving_rarely() -> None:
    model = mlp(128, 512, 5, 10)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    Trainer(Job(None), model, optimizer, nn.CrossEntropyLoss(), [Rarely()]).fit(batches(12_800, 128, 128))


def answering() -> None:
    """Inference in batches."""
    job, model = Job(None), ConvNet(24).eval()
    with torch.inference_mode():
        while True:
            for images, _ in DataLoader(Images(3200, 40), batch_size=32):
                model(images).softmax(1)
                job.step(len(images))


def tiny() -> None:
    """Steps of a few milliseconds."""
    job, model = Job(None), mlp(64, 256, 2, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y = torch.randn(4096, 64), torch.randint(0, 10, (4096,))
    while True:
        for begin in range(0, 4096, 256):
            learn(model, optimizer, x[begin : begin + 256], y[begin : begin + 256])
            job.step(256)


def many_epochs() -> None:
    """Twenty steps an epoch."""
    job, model = Job(None), mlp(128, 768, 3, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = batches(2560, 128, 128)
    while True:
        for x, y in loader:
            learn(model, optimizer, x, y)
            job.step(len(x))


def one_of_two(rank: int) -> None:
    job, model = Job(None), DistributedDataParallel(GPT(128, 3))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for ids, targets in text_batches(16, 96):
        optimizer.zero_grad()
        token_loss(model(ids), targets).backward()
        optimizer.step()
        job.step(len(ids))


def two_ranks() -> None:
    ranks(__file__, one_of_two)


def long_steps() -> None:
    """About a second each."""
    model = GPT(320, 5)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    Trainer(Job(None), model, optimizer, token_loss).fit(DataLoader(Text(3200, 128), batch_size=12, shuffle=True))


SHAPES: dict[str, Callable[[], None]] = {
    "mlp": plain_mlp,
    "gpt": gpt,
    "conv": convolutions,
    "rnn": recurrent,
    "accumulation": accumulating,
    "workers": with_workers,
    "finetune": frozen_backbone,
    "validation": validating,
    "checkpoints": saving_rarely,
    "inference": answering,
    "tiny": tiny,
    "epochs": many_epochs,
    "two-ranks": two_ranks,
    "long-steps": long_steps,
}

if __name__ == "__main__":
    SHAPES[sys.argv[1]]()
