"""Collect garbage all the time, train a step now and then, and count the signals whose handlers raise something.

Each line on stdout is the number of KeyboardInterrupts and of Stops so far.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import gc
import os
import signal
from types import FrameType

import torch
from torch import nn
from truth import announce, write_json


class Stop(Exception):
    """What a scheduler's signal makes of a job: with a number in it."""


def stop(number: int, frame: FrameType | None) -> None:
    raise Stop(number)


def train(ready: str, stop_file: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    while not os.path.exists(stop_file):
        optimizer.zero_grad()
        model(torch.ones(4, 16)).sum().backward()
        optimizer.step()
        announce(ready)
        for _ in range(20):
            gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description="Interrupts in a job that collects garbage.")
    for option in ("--truth", "--ready", "--stop"):
        parser.add_argument(option, required=True, metavar="FILE")
    args = parser.parse_args()
    model = nn.Linear(16, 4)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    gc.collect()
    gc.freeze()  # what torch has loaded is not gone through again: there are many short collections
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, stop)
    interrupts, stops, over = 0, 0, False
    while not over:
        try:
            print(interrupts, stops, flush=True)  # in here: whoever reads it may be quick with the next signal
            train(args.ready, args.stop, model, optimizer)
            over = True
        except KeyboardInterrupt:
            interrupts += 1
        except Stop as error:
            stops += error.args == (signal.SIGUSR1,)
    write_json(args.truth, {"interrupts": interrupts, "stops": stops})


if __name__ == "__main__":
    main()
