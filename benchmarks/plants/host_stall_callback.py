"""A callback in another file draws a picture every fifth step; cured, there is no callback."""

from __future__ import annotations

import pictures
import torch
from data import Images
from job import Job
from models import ConvNet
from torch import nn
from torch.utils.data import DataLoader
from trainer import Trainer


def main() -> None:
    job = Job("host-stall", pictures.__file__)
    model = ConvNet(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    callbacks = [] if job.cured else [pictures.WeightPicture()]
    loader = DataLoader(Images(3200, 24), batch_size=16, shuffle=True)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss(), callbacks).fit(loader)


if __name__ == "__main__":
    main()
