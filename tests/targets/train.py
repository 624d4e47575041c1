"""Train one model deterministically and write down what happened: two runs with the same arguments agree bit for bit.

python train.py --model transformer --steps 200 --truth truth.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import loops
import models
import torch
from planted import PLACES, Collate, Rows, seconds_in
from torch.utils.data import DataLoader
from truth import Truth

BATCHES_PER_EPOCH = 100

MODELS: dict[str, tuple[Callable[[bool], models.Job], Callable[[models.Job, loops.Loader, loops.Run], None]]] = {
    "mlp": (models.mlp, loops.plain),
    "transformer": (models.transformer, loops.plain),
    "convbn": (models.convbn, loops.plain),
    "rnn": (models.rnn, loops.plain),
    "accumulate": (models.mlp, loops.accumulate),
    "checkpointed": (models.checkpointed, loops.plain),
    "checkpointed-reentrant": (models.checkpointed_reentrant, loops.plain),
    "autocast": (models.autocast, loops.autocast),
    "tiny": (models.tiny, loops.plain),
    "inference": (models.transformer, loops.inference),
    "tiny-inference": (models.tiny, loops.inference),
    "gan": (models.gan, loops.gan),
    "shared": (models.shared, loops.plain),
    "dictout": (models.dictout, loops.plain),
    "inplace": (models.inplace, loops.plain),
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train one model and write down the truth of it.")
    parser.add_argument("--model", required=True, choices=MODELS)
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


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    # AdamW's moments of dead units become denormal after some 800 steps: its step would take up to 2.5 times as long.
    torch.set_flush_denormal(True)
    build, loop = MODELS[args.model]
    job = build(args.small)
    rows = Rows(
        job.x,
        job.y,
        length=BATCHES_PER_EPOCH * job.batch_size,
        batch_size=job.batch_size,
        sleep_s=seconds_in("data", args.slow, args.slow_s),
    )
    loader: loops.Loader = DataLoader(
        rows,
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        collate_fn=Collate(seconds_in("collate", args.slow, args.slow_s)),
        generator=torch.Generator().manual_seed(args.seed),
    )
    micro_steps = loops.MICRO_STEPS if loop is loops.accumulate else 1
    truth = Truth(
        args.truth,
        arguments=vars(args),
        batch_size=job.batch_size * micro_steps,
        micro_batch_size=job.batch_size,
        micro_steps=micro_steps,
        modules=models.called_modules(job.roots),
        parameters=sum(p.numel() for root in job.roots for p in root.parameters()),
    )
    run = loops.Run(truth, args.steps, args.slow, args.slow_s, args.ready, args.stop)
    loop(job, loader, run)
    truth.finish(weights_sha256=models.weights_sha256(job.roots))


if __name__ == "__main__":
    main()
