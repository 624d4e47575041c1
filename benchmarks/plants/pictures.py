"""A picture of the weights every few steps, as a callback."""

from __future__ import annotations

import os
import tempfile
import zlib

from torch import Tensor
from trainer import Callback, Trainer

EVERY = 5


class WeightPicture(Callback):
    """Draws the first convolution larger and larger, and keeps the file."""

    def __init__(self) -> None:
        self.path = os.path.join(tempfile.gettempdir(), f"weights-{os.getpid()}.z")

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        if trainer.steps % EVERY == 0:
            weight = next(trainer.model.parameters()).detach().flatten().tolist()
            self.keep(self.draw(weight))

    def draw(self, weight: list[float]) -> bytes:
        pixels = bytearray()
        for row in range(400):  # planted
            for column in range(600):  # planted
                value = weight[(row * 600 + column) % len(weight)]  # planted
                pixels.append(min(255, max(0, int(128 + 400 * value))))  # planted
        return zlib.compress(bytes(pixels), 1)

    def keep(self, picture: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(picture)
