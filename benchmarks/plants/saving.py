"""Checkpoints that survive a power cut."""

from __future__ import annotations

import io
import os
import tempfile

import torch
from torch import Tensor
from trainer import Callback, Trainer

EVERY = 8


class Checkpoint(Callback):
    """Writes to a file beside, has it on the disk, and then renames."""

    def __init__(self) -> None:
        self.path = os.path.join(tempfile.gettempdir(), f"last-{os.getpid()}.pt")

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        if trainer.steps % EVERY == 0:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        memory = io.BytesIO()
        torch.save([trainer.model.state_dict(), trainer.optimizer.state_dict()], memory)  # planted
        with open(f"{self.path}.new", "wb") as file:
            file.write(memory.getbuffer())  # planted
            file.flush()
            os.fsync(file.fileno())  # planted
        os.replace(f"{self.path}.new", self.path)
