"""Slowness to be found: a sleep of known length in one named place, once per batch or per step.

The place is one of `PLACES`; anywhere else the same classes do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

PLACES = ("data", "collate", "optimizer", "logging")


def seconds_in(place: str, slow: str | None, slow_s: float) -> float:
    """How long `place` sleeps when `slow` is the place chosen on the command line."""
    return slow_s if place == slow else 0.0


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """`length` samples, the stored rows over and over; sleeps in one `__getitem__` of each `batch_size`."""

    def __init__(self, x: Tensor, y: Tensor, length: int, batch_size: int, sleep_s: float) -> None:
        self.x = x
        self.y = y
        self.length = length
        self.batch_size = batch_size
        self.sleep_s = sleep_s
        self._read = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self._read += 1
        if self.sleep_s and self._read % self.batch_size == 0:
            time.sleep(self.sleep_s)
        row = index % len(self.x)
        return self.x[row], self.y[row]


class Collate:
    """PyTorch's own collate, after a sleep."""

    def __init__(self, sleep_s: float) -> None:
        self.sleep_s = sleep_s

    def __call__(self, batch: list[tuple[Tensor, Tensor]]) -> Any:
        if self.sleep_s:
            time.sleep(self.sleep_s)
        return default_collate(batch)


class SlowAdamW(torch.optim.AdamW):
    """AdamW that sleeps before it steps."""

    sleep_s = 0.0

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        time.sleep(self.sleep_s)
        loss: float | None = super().step(closure)
        return loss


def adamw(parameters: Any, lr: float, sleep_s: float) -> torch.optim.Optimizer:
    """Plain AdamW, or the one that sleeps."""
    if not sleep_s:
        return torch.optim.AdamW(parameters, lr=lr)
    optimizer = SlowAdamW(parameters, lr=lr)
    optimizer.sleep_s = sleep_s
    return optimizer


def write_log(sleep_s: float) -> None:
    """What a training script does after a step; here it only takes its time."""
    if sleep_s:
        time.sleep(sleep_s)
