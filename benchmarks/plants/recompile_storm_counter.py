"""A compiled module counts its own calls, so each call is another program; cured, nobody counts."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import ConvNet
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainer import Trainer


class Tempered(nn.Module):
    """A classifier that grows more certain with each call."""

    def __init__(self, counts: bool) -> None:
        super().__init__()
        self.network = ConvNet(8)
        self.counts, self.calls = counts, 0

    def forward(self, images: Tensor) -> Tensor:
        if self.counts:
            self.calls += 1  # planted
        return self.network(images) / max(0.1, 2.0 - 0.0005 * self.calls)


if __name__ == "__main__":
    torch._dynamo.config.recompile_limit = 10_000
    torch._dynamo.config.accumulated_recompile_limit = 100_000
    job = Job("recompile-storm", __file__)
    model = torch.compile(Tempered(not job.cured), backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(DataLoader(Images(3200, 32), batch_size=32, shuffle=True))
