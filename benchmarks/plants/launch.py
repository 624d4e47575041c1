"""Start the ranks of a job, each a process of its own, as torchrun does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import torch.distributed as dist

RANKS = 2


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port: int = any_port.getsockname()[1]
        return port


def ranks(script: str, train: Callable[[int], None]) -> None:
    """In a rank: join the others and train. Elsewhere: start the script again for every rank, and wait for them."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        train(dist.get_rank())
        return
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(RANKS)}
    running = [
        subprocess.Popen(
            [sys.executable, script, *sys.argv[1:]],
            env={**os.environ, **where, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(RANKS)},
        )
        for rank in range(RANKS)
    ]
    for process in running:
        process.wait()


def spawned(rank: int, port: int, train: Callable[[int], None]) -> None:
    """The body of a rank that `torch.multiprocessing.spawn` started."""
    os.environ["RANK"] = str(rank)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    train(rank)
