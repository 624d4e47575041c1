"""The models to train: each builder gives modules, data and a loss, and chooses nothing at random but by seed.

`--small` is for runs that only compare hashes; the usual size is for runs that measure time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STORED_BATCHES = 16  # distinct batches of data; epochs are longer and repeat them
CLASSES = 10
NOISE = 8  # width of what the generator starts from
SMOOTHING = 0.1  # of labels: gradients stay alive when the stored batches are known by heart


@dataclass
class Job:
    """What a loop trains: model(x) -> anything that `loss` understands together with y.

    roots: the modules that the program itself calls; the model alone unless told.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    batch_size: int
    loss: Callable[[Any, Tensor], Tensor]
    workers: int = 0
    roots: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roots = self.roots or [self.model]


def called_modules(roots: list[nn.Module]) -> list[str]:
    """Names of all modules whose forward runs; several roots are told apart as `ClassName:name`."""
    names = []
    for root in roots:
        prefix = f"{type(root).__name__}:" if len(roots) > 1 else ""
        for name, module in root.named_modules():
            if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
                names.append(prefix + name)
    return names


def weights_sha256(roots: Iterable[nn.Module]) -> str:
    """One hash over every parameter and buffer, bit for bit, in state_dict order."""
    digest = hashlib.sha256()
    for root in roots:
        for tensor in root.state_dict().values():
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def clusters(count: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Noisy points (count, *shape) around one centre per class, and their classes (count,)."""
    centres = torch.randn(CLASSES, *shape)
    y = torch.randint(CLASSES, (count,))
    return centres[y] + 2.0 * torch.randn(count, *shape), y


def class_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, label_smoothing=SMOOTHING)


def classifier(model: nn.Module, batch_size: int, *shape: int, workers: int = 0) -> Job:
    """A job that sorts `clusters` into classes."""
    x, y = clusters(STORED_BATCHES * batch_size, *shape)
    return Job(model, x, y, batch_size, class_loss, workers)


def layers(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    parts: list[nn.Module] = []
    for before, after in zip(widths, widths[1:]):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def width_and_batch(small: bool) -> tuple[int, int]:
    """The usual size of a multi-layer perceptron and its batches."""
    return (256, 96) if small else (768, 384)


def mlp(small: bool) -> Job:
    width, batch = width_and_batch(small)
    return classifier(layers(width, width, width, CLASSES), batch, width)


def slim(small: bool) -> Job:
    """So little that 40 micro-steps are one step of the usual length."""
    width, batch = (32, 8) if small else (192, 24)
    return classifier(layers(width, width, CLASSES), batch, width)


def narrow(small: bool) -> Job:
    """Few weights for what it computes: LBFGS keeps many copies of them."""
    width, batch = (64, 32) if small else (256, 384)
    return classifier(layers(width, width, width, CLASSES), batch, width)


def matrices(small: bool) -> Job:
    """Two layers, of which only the weights are used."""
    width, batch = (256, 96) if small else (768, 1024)
    return classifier(layers(width, width, CLASSES), batch, width)


class Denoiser(nn.Module):
    """Noisy points (batch, width) at times (batch,) in 0..1 -> the noise in them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.time = nn.Linear(1, hidden)
        self.first = nn.Linear(width, hidden)
        self.last = layers(hidden, hidden, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        noise: Tensor = self.last(torch.relu(self.first(x) + self.time(time.unsqueeze(1))))
        return noise


def denoiser(small: bool) -> Job:
    width, hidden, batch = (32, 64, 16) if small else (256, 1024, 512)
    job = classifier(Denoiser(width, hidden), batch, width)
    job.loss = F.mse_loss
    return job


def convbn(small: bool) -> Job:
    """Convolutions with batch norm, fed by two loader workers."""
    width, side, batch = (8, 12, 8) if small else (32, 32, 32)

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]

    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, CLASSES))
    return classifier(
        nn.Sequential(*block(3, width), *block(width, 2 * width), *pooled), batch, 3, side, side, workers=2
    )


class Tiny(nn.Module):
    """200 layers so small that calling them is all the work."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(200))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        logits: Tensor = self.head(torch.tanh(x))
        return logits


def tiny(small: bool) -> Job:
    return classifier(Tiny(), 4 if small else 32, 8)
