"""A wide language model for a text that repeats after 64 letters; cured, a narrow one."""

from __future__ import annotations

import torch
from job import Job
from models import GPT, token_loss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from trainer import Trainer


class Chant(Dataset[tuple[Tensor, Tensor]]):
    """The same verse over and over, begun anywhere."""

    def __init__(self) -> None:
        self.text = torch.randint(0, 32, (64,)).repeat(4)

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.text[index : index + 32], self.text[index + 1 : index + 33]


if __name__ == "__main__":
    job = Job("oversized-model", __file__)
    model = GPT(64, 1, words=32) if job.cured else GPT(768, 4, words=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    Trainer(job, model, optimizer, token_loss).fit(DataLoader(Chant(), batch_size=8, shuffle=True))
