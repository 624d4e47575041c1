"""Train, and stop for other things: garbage, checkpoints, gradients kept as zeros. The truth file has each with its time."""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from truth import announce, write_json

Event = tuple[float, float]


class Rows(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 640

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((64,), index / 640), index % 8


def collate(rows: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([x for x, _ in rows]), torch.tensor([y for _, y in rows])


def timed(events: list[Event], call: Callable[[], object]) -> None:
    began = time.perf_counter()
    call()
    ended = time.perf_counter()
    events.append((ended, ended - began))


def collect() -> None:
    gc.collect()


def make_garbage() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [{"number": number, "row": [number]} for number in range(9_000)]
    for row in rows:
        row["itself"] = row
    return rows


def save(model: nn.Module) -> None:
    torch.save(model.state_dict(), "model.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description="A job with pauses.")
    for option in ("--truth", "--ready", "--stop"):
        parser.add_argument(option, required=True, metavar="FILE")
    args = parser.parse_args()
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 8))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, foreach=False)
    loader = DataLoader(Subset(Rows(), range(600)), 16, collate_fn=collate)
    collections: list[Event] = []
    saves: list[Event] = []
    steps = 0
    while not os.path.exists(args.stop):
        for x, y in loader:
            optimizer.zero_grad(set_to_none=False)
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            steps += 1
            make_garbage()
            if steps % 10 == 0:
                timed(collections, collect)
            if steps % 15 == 0:
                timed(saves, lambda: save(model))
            if steps == 30:
                announce(args.ready)
    write_json(args.truth, {"steps": steps, "collections": collections, "saves": saves})


if __name__ == "__main__":
    main()
