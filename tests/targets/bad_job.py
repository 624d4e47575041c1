"""Train the same step over and over from the same weights, and compare loss and weights, bit for bit, with the first.

Whatever is done to it from outside, and however long it runs, `wrong` stays 0.
"""

from __future__ import annotations

import argparse
import os

import torch
from torch.utils.data import DataLoader
from truth import Truth, announce

WIDTH, BATCH = 32, 16


class Step:
    """One training step, put back to its beginning each time."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, WIDTH), torch.nn.Dropout(0.1), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 1)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.x, self.y = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 1)
        self.begin = [p.detach().clone() for p in self.model.parameters()]

    def run(self) -> list[bytes]:
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), self.begin):
                parameter.copy_(value)
        self.optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(self.model(self.x), self.y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return [value.detach().numpy().tobytes() for value in (loss, *self.model.parameters())]


def main() -> None:
    parser = argparse.ArgumentParser(description="The same training step again and again.")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end; FILE.steps as it goes")
    parser.add_argument("--ready", metavar="FILE", help="appears after the first step")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--worker", action="store_true", help="keep a DataLoader worker beside it")
    parser.add_argument(
        "--busy",
        type=int,
        nargs="?",
        const=10**15,
        metavar="N",
        help="one call into C, after the first step: without end, or 12 ns N times",
    )
    parser.add_argument("--exit-code", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    step = Step()
    first = step.run()
    truth = Truth(args.truth, batch_size=BATCH)
    wrong = 0
    batches = iter(DataLoader(range(10**6), num_workers=1)) if args.worker else None  # type: ignore[arg-type]
    announce(args.ready)
    if args.busy:
        sum(range(args.busy))
    while truth.steps < args.steps and not (args.stop and os.path.exists(args.stop)):
        wrong += step.run() != first
        truth.step(BATCH, wrong=wrong)
    del batches
    truth.finish(wrong=wrong)
    raise SystemExit(args.exit_code)


if __name__ == "__main__":
    main()
