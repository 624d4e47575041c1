"""Twelve workers that each compute with several threads, on a machine of few cores; cured, one worker with one."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import ConvNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WORKERS, THREADS = 12, 4


class Blurred(Dataset[tuple[Tensor, int]]):
    """Pictures, blurred and normed."""

    def __init__(self) -> None:
        self.images = Images(4800, 64)
        self.kernel = torch.ones(3, 1, 9, 9) / 81

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        soft = nn.functional.conv2d(image[None], self.kernel, padding=4, groups=3)[0]
        for _ in range(20):
            soft = (soft - soft.mean()) / (soft.std() + 1e-5)
        return soft[:, ::2, ::2], label


def several_threads(worker: int) -> None:
    torch.set_num_threads(THREADS)


def main() -> None:
    job = Job("loader-oversubscribed", __file__)
    loader = DataLoader(
        Blurred(),
        batch_size=16,
        shuffle=True,
        num_workers=1 if job.cured else WORKERS,
        persistent_workers=True,
        worker_init_fn=None if job.cured else several_threads,
    )
    model = ConvNet(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            job.step(len(images))


if __name__ == "__main__":
    main()
