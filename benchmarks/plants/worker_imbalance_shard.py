"""One worker's shard is compressed far harder than the others'; cured, all are alike."""

from __future__ import annotations

import bz2
import pickle
import zlib
from collections.abc import Iterator

import numpy as np
import torch
from job import Job
from models import mlp
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

SHARDS, INPUTS, BATCH = 3, 512, 32


class Shards(IterableDataset[tuple[Tensor, Tensor]]):
    """One shard a worker; a piece of a shard holds one batch."""

    def __init__(self, slow_shard: int | None) -> None:
        values = np.random.default_rng(0).integers(0, 9, (BATCH, INPUTS * 18)).astype(np.float32)
        pieces = pickle.dumps(values)
        self.slow_shard = slow_shard
        self.fast, self.slow = zlib.compress(pieces, 1), bz2.compress(pieces)

    def piece(self, shard: int) -> np.ndarray:
        if shard == self.slow_shard:
            return pickle.loads(bz2.decompress(self.slow))  # planted
        return pickle.loads(zlib.decompress(self.fast))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = get_worker_info()
        assert info is not None
        while True:
            values = self.piece(info.id)[:, :INPUTS]
            yield torch.from_numpy(values.copy()), torch.arange(BATCH) % 10


def main() -> None:
    job = Job("worker-imbalance", __file__)
    model = mlp(INPUTS, 1024, 3, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    for x, y in DataLoader(Shards(None if job.cured else 0), batch_size=None, num_workers=SHARDS):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        job.step(len(x))


if __name__ == "__main__":
    main()
