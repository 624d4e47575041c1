"""A loop of one's own around accelerate: prepare(), accumulate(), a learning rate schedule, clipped gradients."""

# mypy: allow-untyped-calls

from __future__ import annotations

import torch
from accelerate import Accelerator
from framework_run import BATCH_SIZE, LENGTH, WORDS, Run, Sentences, arguments
from torch import Tensor, nn
from torch.utils.data import DataLoader

WIDTH = 128


def main() -> None:
    args = arguments(__doc__)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.accumulate)
    model: nn.Module = nn.Sequential(
        nn.Embedding(WORDS, WIDTH),
        nn.LSTM(WIDTH, WIDTH, batch_first=True),
        Last(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, 4 * WIDTH),
        nn.GELU(),
        nn.Linear(4 * WIDTH, WORDS),
    )
    run = Run(args, model)
    loader = DataLoader(Sentences(), BATCH_SIZE, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=100)
    prepared, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    train(accelerator, prepared, optimizer, loader, schedule, run)
    run.finish(torch.zeros(1, LENGTH, dtype=torch.int64))


class Last(nn.Module):
    """What a recurrent layer says after each word, without its state."""

    def forward(self, said: tuple[Tensor, object]) -> Tensor:
        return said[0]


def train(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[dict[str, Tensor]],
    schedule: torch.optim.lr_scheduler.LRScheduler,
    run: Run,
) -> None:
    truth = run.truth
    truth.begin()
    while not run.over:
        with truth.phase("data"):
            batches = iter(loader)
        while not run.over:
            with truth.phase("data"):
                batch = next(batches, None)
            if batch is None:
                break
            with accelerator.accumulate(model):
                with truth.phase("forward"):
                    logits = model(batch["input_ids"])
                    loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
                truth.loss(loss.item())
                with truth.phase("backward"):
                    accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                # While it accumulates, accelerate's optimizer only looks whether it is time: that is no step.
                with truth.phase("optimizer" if accelerator.sync_gradients else "waiting"):
                    optimizer.step()
                if accelerator.sync_gradients:
                    run.step()
                schedule.step()
                optimizer.zero_grad()


if __name__ == "__main__":
    main()
