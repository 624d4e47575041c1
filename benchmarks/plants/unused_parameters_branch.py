"""A decoder of which only the encoder half is called; cured, only that half is made."""

from __future__ import annotations

import torch
from data import Images
from job import Job
from models import ConvNet
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainer import Trainer


class Network(nn.Module):
    """A classifier, and a way back to pictures that `reconstruct` would switch on."""

    def __init__(self, with_decoder: bool, reconstruct: bool = False) -> None:
        super().__init__()
        self.classifier = ConvNet(16)
        self.reconstruct = reconstruct
        if with_decoder:
            self.decoder = nn.Sequential(  # planted
                *(nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.ReLU()),
                *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1)),
            )

    def forward(self, images: Tensor) -> Tensor:
        scores = self.classifier(images)
        if self.reconstruct:
            self.decoder(self.classifier.stages(images))
        return scores


if __name__ == "__main__":
    job = Job("unused-parameters", __file__)
    model = Network(with_decoder=not job.cured)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    Trainer(job, model, optimizer, nn.CrossEntropyLoss()).fit(DataLoader(Images(1600, 24), batch_size=32))
