"""Hugging Face Trainer on a small GPT-2 made from its configuration. Nothing is fetched from anywhere."""

# mypy: allow-untyped-calls

from __future__ import annotations

import os
from typing import Any

from framework_run import BATCH_SIZE, LENGTH, WORDS, Run, Sentences, arguments
from torch.utils.data import default_collate
from transformers import (
    BatchEncoding,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Logged(GPT2LMHeadModel):  # type: ignore[misc]
    """Notes how long each forward takes, and its loss."""

    run: Run

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.run.truth.phase("forward"):
            output = super().forward(*args, **kwargs)
        self.run.truth.loss(output.loss.item())
        return output


class Told(TrainerCallback):  # type: ignore[misc]
    """What the Trainer says of its steps."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._optimizer = run.truth.phase("optimizer")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._run.truth.begin()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._optimizer.__enter__()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._optimizer.__exit__(None, None, None)
        self._run.step()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = control.should_training_stop or self._run.over


def encoded(sentences: list[Any]) -> BatchEncoding:
    """A batch as collators with a tokenizer return it: a mapping, but no dict."""
    return BatchEncoding(default_collate(sentences))


def main() -> None:
    args = arguments(__doc__)
    config = GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=128, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = Logged(config)
    run = Logged.run = Run(args, model)
    settings = TrainingArguments(
        output_dir="out",
        use_cpu=True,
        max_steps=args.steps,
        per_device_train_batch_size=BATCH_SIZE,
        gradient_accumulation_steps=args.accumulate,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(model, settings, encoded, train_dataset=Sentences(), callbacks=[Told(run)]).train()
    run.finish(**encoded([Sentences()[index] for index in range(2)]))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
