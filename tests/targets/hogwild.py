"""Hogwild: several processes train one shared model without a lock, each on data of its own.

`FILE` is of the whole; each process writes its own truth to `FILE.0`, `FILE.1` and so on. Nothing here is
deterministic: each step starts from what the others have made of the weights.
"""

from __future__ import annotations

import argparse
import os
import time

import loops
import models
import torch
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, TensorDataset
from truth import Truth, announce, write_json

PROCESSES = 3


def train(rank: int, model: torch.nn.Module, args: argparse.Namespace) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed + rank)
    torch.set_flush_denormal(True)
    width, batch = models.width_and_batch(args.small)
    x, y = models.clusters(models.STORED_BATCHES * batch, width)
    job = models.Job(model, x, y, batch, models.class_loss)
    truth = Truth(
        f"{args.truth}.{rank}",
        rank=rank,
        batch_size=batch,
        micro_steps=1,
        modules=models.called_modules([model]),
    )
    run = loops.Run(truth, args.steps, ready=f"{args.ready}.{rank}" if args.ready else None, stop=args.stop)
    loops.plain(job, DataLoader(TensorDataset(x, y), batch, shuffle=True, drop_last=True), run)
    truth.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one shared model in several processes.")
    parser.add_argument("--steps", type=int, required=True, help="of each process")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end; FILE.RANK by each process")
    parser.add_argument("--ready", metavar="FILE", help="appears after the first step of each process")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="short steps")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    width, _ = models.width_and_batch(args.small)
    model = models.layers(width, width, width, models.CLASSES)
    model.share_memory()
    spawned = mp.get_context("spawn")
    processes = [spawned.Process(target=train, args=(rank, model, args)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    if args.ready:
        while not all(os.path.exists(f"{args.ready}.{rank}") for rank in range(PROCESSES)):
            time.sleep(0.02)
        announce(args.ready)
    for process in processes:
        process.join()
    write_json(
        args.truth,
        {"pid": os.getpid(), "pids": [p.pid for p in processes], "exit_codes": [p.exitcode for p in processes]},
    )


if __name__ == "__main__":
    main()
