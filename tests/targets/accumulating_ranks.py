"""Two ranks over gloo that accumulate two passes a step; the first rank is late for each backward pass.

DDP all-reduces in both passes until the file `no_sync` appears, then in the last one only. This process is rank 0; the
file `other` has the PID of rank 1.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from truth import announce, write_json

LATE_S = 0.01
PASSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Two ranks that accumulate.")
    for option in ("--truth", "--ready", "--stop"):
        parser.add_argument(option, required=True, metavar="FILE")
    parser.add_argument("--rank", type=int, default=0)
    args = parser.parse_args()
    other = None
    if args.rank == 0:
        other = subprocess.Popen([sys.executable, *sys.argv, "--rank", "1"])
        with open("other", "w") as file:
            file.write(str(other.pid))
    dist.init_process_group("gloo", init_method=f"file://{os.path.abspath('meet')}", rank=args.rank, world_size=2)
    torch.manual_seed(args.rank)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1)))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    steps = 0
    over = torch.zeros(())
    while not over:
        no_sync = os.path.exists("no_sync")
        for number in range(PASSES):
            keep = model.no_sync() if no_sync and number < PASSES - 1 else contextlib.nullcontext()
            with keep:
                loss = model(torch.randn(16, 32)).square().mean()
                if args.rank == 0:
                    time.sleep(LATE_S)
                loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        over.fill_(float(os.path.exists(args.stop)))
        dist.all_reduce(over)  # both leave after the same step
        if steps == 20 and args.rank == 0:
            announce(args.ready)
    dist.destroy_process_group()
    if other is not None:
        other.wait()
        write_json(args.truth, {"steps": steps})


if __name__ == "__main__":
    main()
