"""Samples are decoded in Python, one by one, in the training process; cured, they were decoded beforehand."""

from __future__ import annotations

import base64
import json

import torch
from job import Job
from models import mlp
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ROWS, INPUTS = 4000, 256


class Records(Dataset[tuple[Tensor, int]]):
    """Lines of JSON, as a crawler left them."""

    def __init__(self) -> None:
        self.lines = []
        for number in range(200):
            values = base64.b64encode(json.dumps(torch.randn(INPUTS).tolist()).encode()).decode()
            self.lines.append(json.dumps({"values": values, "label": number % 10}))

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        record = json.loads(self.lines[index % len(self.lines)])  # planted
        values = json.loads(base64.b64decode(record["values"]))  # planted
        middle = sum(values) / len(values)  # planted
        spread = sum((value - middle) ** 2 for value in values) ** 0.5  # planted
        return torch.tensor([(value - middle) / spread for value in values]), record["label"]  # planted


class Decoded(Dataset[tuple[Tensor, int]]):
    """The same, decoded once."""

    def __init__(self, records: Records) -> None:
        self.samples = [records[index] for index in range(len(records.lines))]

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.samples[index % len(self.samples)]


job = Job("input-bound", __file__)
records = Records()
loader = DataLoader(Decoded(records) if job.cured else records, batch_size=64, shuffle=True, drop_last=True)
model = mlp(INPUTS, 512, 3, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))
