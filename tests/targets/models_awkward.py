"""Models that do what hooks on modules stumble over: recompute, share, wrap, change in place, return more than tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models import CLASSES, Job, class_loss, classifier, layers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    """Blocks with dropout whose activations are computed again in backward."""

    def __init__(self, width: int, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Dropout(0.2), nn.ReLU()) for _ in range(3)
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = checkpoint(block, h, use_reentrant=self.reentrant)
        logits: Tensor = self.head(h)
        return logits


def checkpointed(small: bool, reentrant: bool = False) -> Job:
    width, batch = (128, 64) if small else (512, 192)
    return classifier(Checkpointed(width, reentrant), batch, width)


def checkpointed_reentrant(small: bool) -> Job:
    return checkpointed(small, reentrant=True)


def autocast(small: bool) -> Job:
    width, batch = (128, 64) if small else (768, 256)
    model = nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width), nn.Linear(width, CLASSES)
    )
    job = classifier(model, batch, width)
    # The sum, not the mean: gradients large enough to overflow once the scale has grown.
    job.loss = lambda out, y: batch * class_loss(out, y)
    return job


class Shared(nn.Module):
    """One layer called three times, and once more under its other name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.alias = self.layer
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.layer(x).relu()
        logits: Tensor = self.head(self.alias(x))
        return logits


def shared(small: bool) -> Job:
    width, batch = (192, 96) if small else (640, 192)
    return classifier(Shared(width), batch, width)


@dataclass
class Output:
    """What a model of a popular library returns."""

    logits: Tensor
    hidden: dict[str, Any]


class Body(nn.Module):
    """Returns a dict in which not everything is a tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, *, x: Tensor) -> dict[str, Any]:
        return {"hidden": self.layer(x).relu(), "count": len(x), "name": "body", "none": None}


class DictOut(nn.Module):
    """Calls its part by keyword and returns a dataclass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = Body(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Output:
        hidden = self.body(x=x)
        return Output(self.head(hidden["hidden"]), hidden)


def dictout(small: bool) -> Job:
    width, batch = (256, 128) if small else (896, 384)
    job = classifier(DictOut(width), batch, width)
    job.loss = lambda out, y: class_loss(out.logits, y)
    return job


class InPlace(nn.Module):
    """Changes what its layers returned, views of it included."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True))
        self.second = nn.Linear(width, width)
        self.same = nn.Identity()
        self.third = nn.Sequential(nn.Dropout(0.1, inplace=True), nn.Linear(width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(self.first(x))
        h += 1
        h.mul_(2)
        h[:, 0] = 0
        view = self.same(h.view(len(h), 2, -1))
        view.add_(1)
        logits: Tensor = self.third(view.flatten(1))
        return logits


def inplace(small: bool) -> Job:
    width, batch = (192, 128) if small else (768, 384)
    return classifier(InPlace(width), batch, width)


class Wrapped(nn.Module):
    """A user's own wrapper, of the shape that DataParallel has."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def wrapped(small: bool) -> Job:
    width, batch = (256, 96) if small else (768, 256)
    return classifier(Wrapped(layers(width, width, width, CLASSES)), batch, width)


class Encoder(nn.Module):
    """Points (batch, width) -> codes (batch, hidden)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = layers(width, width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.net(x)
        return codes


class Head(nn.Module):
    """Codes (batch, hidden) -> logits (batch, CLASSES)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = layers(hidden, hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


class Halves(nn.Module):
    """Has no forward of its own: used through `encode` and `classify`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, hidden)
        self.head = Head(hidden)

    def encode(self, x: Tensor) -> Tensor:
        codes: Tensor = self.encoder(x)
        return codes

    def classify(self, codes: Tensor) -> Tensor:
        logits: Tensor = self.head(codes)
        return logits


def halves(small: bool) -> Job:
    """Two modules that the program calls, neither of which is the model."""
    width, batch = (256, 96) if small else (768, 512)
    model = Halves(width, width // 2)
    job = classifier(model, batch, width)
    job.roots = [model.encoder, model.head]
    return job
