"""What the cells of a notebook import: a model that trains so many steps whenever asked, and the truth of it."""

# mypy: allow-untyped-calls

from __future__ import annotations

import torch
from framework_run import strangers
from models import called_modules, weights_sha256
from torch import nn
from truth import Truth, write_json

BATCH_SIZE = 64
MODEL: nn.Module = nn.Sequential()
OPTIMIZER: torch.optim.Optimizer
TRUTH: Truth


def build() -> None:
    """First cell."""
    global MODEL, OPTIMIZER, TRUTH
    torch.set_num_threads(1)
    torch.manual_seed(0)
    MODEL = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512), nn.Linear(512, 8))
    OPTIMIZER = torch.optim.AdamW(MODEL.parameters(), 1e-3)
    TRUTH = Truth("kernel.truth", modules=called_modules([MODEL]), batch_size=BATCH_SIZE)


def train(steps: int) -> None:
    """One more cell with a training loop."""
    TRUTH.begin()
    for _ in range(steps):
        x, y = torch.randn(BATCH_SIZE, 256), torch.randint(0, 8, (BATCH_SIZE,))
        OPTIMIZER.zero_grad()
        loss = nn.functional.cross_entropy(MODEL(x), y)
        loss.backward()
        OPTIMIZER.step()
        TRUTH.step(BATCH_SIZE)
        TRUTH.loss(loss.item())


def finish() -> None:
    """Last cell."""
    TRUTH.finish(weights_sha256=weights_sha256([MODEL]))
    write_json("strangers.json", {"strangers": strangers()})
