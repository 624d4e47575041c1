"""Pictures are padded pixel by pixel in collate, in one worker that cannot keep up; cured, they need no padding."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import ConvNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from trainer import Trainer

SIDE, PADDED = 28, 32


def padded(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A border around each picture, repeated from its edge."""
    batch = torch.zeros(len(samples), 3, PADDED, PADDED)
    edge = (PADDED - SIDE) // 2
    for place, (image, _) in enumerate(samples):
        for row in range(PADDED):  # planted
            from_row = min(max(row - edge, 0), SIDE - 1)  # planted
            for column in range(PADDED):  # planted
                from_column = min(max(column - edge, 0), SIDE - 1)  # planted
                batch[place, :, row, column] = image[:, from_row, from_column]  # planted
    return batch, torch.tensor([label for _, label in samples])


def main() -> None:
    job = Job("input-bound", __file__)
    torch.manual_seed(0)
    model = ConvNet(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(
        Images(1600, PADDED if job.cured else SIDE),
        batch_size=16,
        num_workers=1,
        persistent_workers=True,
        collate_fn=default_collate if job.cured else padded,
    )
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(loader)


if __name__ == "__main__":
    main()
