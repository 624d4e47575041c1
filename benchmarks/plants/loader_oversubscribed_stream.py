"""Every one of twelve workers parses the whole stream and keeps its twelfth; cured, one worker parses it once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from job import Job
from models import Tagger, token_loss
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from trainer import Trainer

WORKERS = 12


class Corpus(IterableDataset[tuple[Tensor, Tensor]]):
    """Lines of JSON with a sentence each."""

    def __init__(self) -> None:
        words = torch.randint(0, 2000, (400, 24)).tolist()
        self.lines = [json.dumps({"words": sentence, "note": "x" * 20_000}) for sentence in words]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = get_worker_info()
        assert info is not None
        for number in range(10**9):
            sentence = json.loads(self.lines[number % len(self.lines)])["words"]
            if number % info.num_workers == info.id:
                words = torch.tensor(sentence)
                yield words, words % 12


if __name__ == "__main__":
    job = Job("loader-oversubscribed", __file__)
    model = Tagger()
    loader = DataLoader(Corpus(), batch_size=32, num_workers=1 if job.cured else WORKERS)
    Trainer(job, model, torch.optim.SGD(model.parameters(), lr=0.1), token_loss).fit(loader)
