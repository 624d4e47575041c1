"""Lightning with automatic optimization: forward and backward run in a closure, inside the optimizer's step."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import lightning
import torch
from framework_run import BATCH_SIZE, WORDS, Run, Sentences, arguments
from torch import Tensor, nn
from torch.utils.data import DataLoader

WIDTH = 128


class Model(lightning.LightningModule):  # type: ignore[misc]
    """Two layers of attention over words, and Lightning's hooks to note when what happens."""

    run: Run

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        with self.run.truth.phase("forward"):
            logits = self(batch["input_ids"])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        self.run.truth.loss(loss.item())
        self.log("loss", loss)
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        self.run.truth.phase("backward").__enter__()

    def on_after_backward(self) -> None:
        self.run.truth.phase("backward").__exit__(None, None, None)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.run.truth.phase("optimizer").__enter__()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.run.truth.phase("optimizer").__exit__(None, None, None)
        self.run.step()

    def on_train_start(self) -> None:
        self.run.truth.begin()

    def on_train_batch_end(self, *_: Any) -> None:
        self.trainer.should_stop = self.run.over


def main() -> None:
    args = arguments(__doc__)
    model = Model()
    run = Model.run = Run(args, model)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=args.steps,
        max_epochs=-1,
        accumulate_grad_batches=args.accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(Sentences(), BATCH_SIZE, shuffle=True, drop_last=True)
    trainer.fit(model, loader)
    run.finish(Sentences()[0]["input_ids"][None])


if __name__ == "__main__":
    main()
