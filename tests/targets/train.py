"""Train one model deterministically and write down what happened: two runs with the same arguments agree bit for bit.

python train.py --model transformer --steps 200 --truth truth.json
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence

import loops
import models
import torch
from kinds import KINDS
from planted import PLACES
from truth import Truth


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train one model and write down the truth of it.")
    parser.add_argument("--model", required=True, choices=KINDS)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end; FILE.steps as it goes")
    parser.add_argument("--ready", metavar="FILE", help="appears after the first step")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    parser.add_argument("--slow", choices=PLACES, help="sleep here, once per batch or step")
    parser.add_argument("--slow-s", type=float, default=0.02, metavar="S")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="short steps, for comparing hashes")
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> None:
    """Build and train: all that a thread of its own has to do."""
    # AdamW's moments of dead units become denormal after some 800 steps: its step would take up to 2.5 times as long.
    # A setting of this thread.
    torch.set_flush_denormal(True)
    kind = KINDS[args.model]
    job = kind.build(args.small)
    truth = Truth(
        args.truth,
        arguments=vars(args),
        batch_size=job.batch_size * kind.batches,
        micro_batch_size=job.batch_size,
        micro_steps=kind.batches if kind.micro_steps is None else kind.micro_steps,
        modules=models.called_modules(job.roots),
        parameters=sum(p.numel() for root in job.roots for p in root.parameters()),
    )
    run = loops.Run(truth, args.steps, args.slow, args.slow_s, args.ready, args.stop)
    kind.loop(job, kind.feed(job, args), run)
    truth.finish(weights_sha256=models.weights_sha256(job.roots))


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if KINDS[args.model].in_thread:
        thread = threading.Thread(target=train, args=(args,), name="trainer")
        thread.start()
        thread.join()
    else:
        train(args)


if __name__ == "__main__":
    main()
