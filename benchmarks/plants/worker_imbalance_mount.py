"""The second worker reads from a slow mount, as its init function chose; cured, both read from the fast one."""

from __future__ import annotations

import time

import torch
from data import Text
from job import Job
from models import GPT, token_loss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from trainer import Trainer

SLOW_READ_S, FAST_READ_S = 0.02, 0.0005


class Mounted(Dataset[tuple[Tensor, Tensor]]):
    """Text on one of two mounts."""

    def __init__(self) -> None:
        self.text = Text(8000, 48)
        self.read_s = FAST_READ_S

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(self.read_s)  # planted
        return self.text[index]


def choose_mount(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.read_s = SLOW_READ_S if worker == 1 else FAST_READ_S


if __name__ == "__main__":
    job = Job("worker-imbalance", __file__)
    model = GPT(96, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loader = DataLoader(Mounted(), 16, shuffle=True, num_workers=2, worker_init_fn=None if job.cured else choose_mount)
    Trainer(job, model, optimizer, token_loss).fit(loader)
