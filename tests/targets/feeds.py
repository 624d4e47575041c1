"""Where batches come from: a DataLoader of one kind or another, or slices made by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from loops import Loader
from models import Job
from planted import Collate, Rows, seconds_in
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler, get_worker_info

BATCHES_PER_EPOCH = 100

Feed = Callable[[Job, argparse.Namespace], Iterable[Any]]


def stored(job: Job, args: argparse.Namespace) -> Rows:
    """The rows of the job's data, over and over for an epoch."""
    return Rows(
        job.x,
        job.y,
        length=BATCHES_PER_EPOCH * job.batch_size,
        batch_size=job.batch_size,
        sleep_s=seconds_in("data", args.slow, args.slow_s),
    )


def rows(job: Job, args: argparse.Namespace) -> Loader:
    """The plain case: a map-style dataset, shuffled."""
    return DataLoader(
        stored(job, args),
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        collate_fn=Collate(seconds_in("collate", args.slow, args.slow_s)),
        generator=torch.Generator().manual_seed(args.seed),
    )


class Slices:
    """Batches cut out of the whole by the script itself."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        job = self.job
        for batch in torch.split(torch.randperm(len(job.x)), job.batch_size):
            yield job.x[batch], job.y[batch]


def slices(job: Job, _args: argparse.Namespace) -> Slices:
    return Slices(job)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """The same rows as a stream, which each worker reads its own part of."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        for index in range(first, BATCHES_PER_EPOCH * self.job.batch_size, every):
            row = index % len(self.job.x)
            yield self.job.x[row], self.job.y[row]


def stream(workers: int) -> Feed:
    """An IterableDataset, read here (0) or by so many workers."""

    def feed(job: Job, _args: argparse.Namespace) -> Loader:
        return DataLoader(Stream(job), batch_size=job.batch_size, num_workers=workers, drop_last=True)

    return feed


class Uneven(Sampler[list[int]]):
    """Batches of a half to one and a half times the usual size."""

    def __init__(self, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return BATCHES_PER_EPOCH

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(BATCHES_PER_EPOCH):
            size = self.batch_size // 2 + int(torch.randint(self.batch_size + 1, (), generator=self.generator))
            yield torch.randint(BATCHES_PER_EPOCH * self.batch_size, (size,), generator=self.generator).tolist()


def uneven(job: Job, args: argparse.Namespace) -> Loader:
    return DataLoader(stored(job, args), batch_sampler=Uneven(job.batch_size, args.seed))


class Shortened:
    """Collates sequences (batch, length), cut to a length that each batch draws for itself."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        longest = len(batch[0][0])
        length = longest // 4 + int(torch.randint(longest - longest // 4 + 1, (), generator=self.generator))
        return torch.stack([x[:length] for x, _ in batch]), torch.stack([y[:length] for _, y in batch])


def shortened(job: Job, args: argparse.Namespace) -> Loader:
    generator = torch.Generator().manual_seed(args.seed)
    collate = Shortened(args.seed)
    return DataLoader(
        stored(job, args), job.batch_size, shuffle=True, drop_last=True, collate_fn=collate, generator=generator
    )
