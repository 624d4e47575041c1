"""Games of linked positions come and go, each of which knows the whole board; cured, the collector is off.

What is dropped is then taken apart by hand, so that it goes without a collector.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable

import torch
from job import Job
from models import mlp
from torch import Tensor, nn

POSITIONS, BOARD, GAMES = 3000, 400, 25
PIECES = [object() for _ in range(BOARD)]


class Position:
    """One position of a game, which knows the one before it and the one after."""

    def __init__(self, before: Position | None) -> None:
        self.before = before
        self.after: Position | None = None
        self.board = list(PIECES)  # planted
        if before is not None:
            before.after = self


def played() -> list[Position]:
    """One game."""
    positions: list[Position] = []
    last: Position | None = None
    for _ in range(POSITIONS):
        last = Position(last)  # planted
        positions.append(last)  # planted
    return positions


def take_apart(game: list[Position]) -> None:
    for position in game:
        position.before = None


def learner(model: nn.Module) -> Callable[[Tensor, Tensor], None]:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def learn(states: Tensor, returns: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(states), returns).backward()
        optimizer.step()

    return learn


def main() -> None:
    job = Job("gc-pauses", __file__)
    if job.cured:
        gc.disable()
    replay = deque(played() for _ in range(GAMES))
    learn = learner(mlp(64, 768, 4, 1))
    while True:
        dropped = replay.popleft()
        if job.cured:
            take_apart(dropped)
        replay.append(played())
        learn(torch.randn(256, 64), torch.randn(256, 1))
        job.step(256)


if __name__ == "__main__":
    main()
