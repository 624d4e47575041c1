"""A job with something about it that goes on and on: a model of 5,000 modules, a step of minutes, a loss of NaN.

`nan`: the loss is finite for 20 steps, then NaN, then infinite, then so again every 20 steps.
`step`: one short step, then one that lasts `--seconds`, then short ones.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from truth import Truth, announce

GROUPS, MEMBERS = 50, 99  # 50 x (1 + 99) modules and their root


def main() -> None:
    parser = argparse.ArgumentParser(description="A job that is long in one way.")
    parser.add_argument("--kind", choices=("modules", "step", "nan"), required=True)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end; FILE.steps as it goes")
    parser.add_argument("--ready", metavar="FILE", help="appears after the first step")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.kind == "modules":
        group = [torch.nn.Linear(2, 2) for _ in range(MEMBERS)]
        model = torch.nn.Sequential(*[torch.nn.Sequential(*[type(m)(2, 2) for m in group]) for _ in range(GROUPS)])
    else:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(4, 2)
    truth = Truth(args.truth, batch_size=4, modules=sum(1 for _ in model.modules()))
    while not (args.stop and os.path.exists(args.stop)):
        optimizer.zero_grad()
        if args.kind == "nan":  # before the forward: what stays NaN makes every later loss so
            with torch.no_grad():
                torch.nn.init.ones_(model[0].weight)  # type: ignore[arg-type]
                torch.nn.init.zeros_(model[0].bias)  # type: ignore[arg-type]
            time.sleep(0.02)
        loss = model(x).square().mean()
        if args.kind == "nan":
            loss = loss * (1.0, float("nan"), float("inf"))[truth.steps // 20 % 3]
        if args.kind == "step" and truth.steps == 3:
            end = time.monotonic() + args.seconds
            while time.monotonic() < end:  # Python all the time: safe points, but no step
                sum(range(1000))
        loss.backward()
        optimizer.step()
        truth.step(4)
        if truth.steps == (3 if args.kind == "step" else 1):
            announce(args.ready)
    truth.finish()


if __name__ == "__main__":
    main()
