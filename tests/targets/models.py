"""The models to train: each builder gives modules, data and a loss, and chooses nothing at random but by seed.

`--small` is for runs that only compare hashes; the usual size is for runs that measure time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

STORED_BATCHES = 16  # distinct batches of data; epochs are longer and repeat them
CLASSES = 10
NOISE = 8  # width of what the generator starts from
SMOOTHING = 0.1  # of labels: gradients stay alive when the stored batches are known by heart


@dataclass
class Job:
    """What a loop trains: model(x) -> anything that `loss` understands together with y."""

    model: nn.Module
    x: Tensor
    y: Tensor
    batch_size: int
    loss: Callable[[Any, Tensor], Tensor]
    workers: int = 0
    critic: nn.Module | None = None

    @property
    def roots(self) -> list[nn.Module]:
        return [self.model] if self.critic is None else [self.model, self.critic]


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


def sequences(count: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Tokens (count, length) that count upwards with some noise, and each one's successor."""
    start = torch.randint(vocabulary, (count, 1))
    jumps = (torch.rand(count, length + 1) < 0.1).long() * torch.randint(vocabulary, (count, length + 1))
    tokens = (start + torch.cumsum(1 + jumps, dim=1)) % vocabulary
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def class_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, label_smoothing=SMOOTHING)


def next_token_loss(logits: Tensor, y: Tensor) -> Tensor:
    return class_loss(logits.flatten(0, 1), y.flatten())


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


def mlp(small: bool) -> Job:
    width, batch = (256, 96) if small else (768, 384)
    return classifier(layers(width, width, width, CLASSES), batch, width)


class Block(nn.Module):
    """One pre-norm transformer layer with dropout: (batch, time, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, steps, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.dropout(self.out(h))
        x = x + self.dropout(self.mlp(self.norm2(x)))
        return x


class Transformer(nn.Module):
    """Tokens (batch, time) -> logits of the next token (batch, time, vocabulary)."""

    def __init__(self, vocabulary: int, length: int, width: int, blocks: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads=4) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.positions
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.head(self.norm(h))
        return logits


def transformer(small: bool) -> Job:
    length, width, blocks, batch = (16, 32, 2, 4) if small else (64, 128, 4, 8)
    x, y = sequences(STORED_BATCHES * batch, length, vocabulary=64)
    return Job(Transformer(64, length, width, blocks), x, y, batch, next_token_loss)


def convbn(small: bool) -> Job:
    """Convolutions with batch norm, fed by two loader workers."""
    width, side, batch = (8, 12, 8) if small else (32, 32, 32)

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]

    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, CLASSES))
    return classifier(
        nn.Sequential(*block(3, width), *block(width, 2 * width), *pooled), batch, 3, side, side, workers=2
    )


class Recurrent(nn.Module):
    """Tokens (batch, time) -> logits of the next token, through a two-layer LSTM."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, dropout=0.1)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(self.tokens(x))
        logits: Tensor = self.head(h)
        return logits


def rnn(small: bool) -> Job:
    length, width, batch = (12, 32, 8) if small else (48, 160, 24)
    x, y = sequences(STORED_BATCHES * batch, length, vocabulary=32)
    return Job(Recurrent(32, width), x, y, batch, next_token_loss)


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


class Generator(nn.Module):
    """Noise (batch, NOISE) -> points (batch, width)."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.net = layers(NOISE, hidden, hidden, width)

    def forward(self, z: Tensor) -> Tensor:
        points: Tensor = self.net(z)
        return points


class Critic(nn.Module):
    """Points (batch, width) -> logits (batch, 1) of being real."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = layers(width, hidden, hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def gan(small: bool) -> Job:
    width, hidden, batch = (16, 128, 64) if small else (64, 512, 192)
    x, y = clusters(STORED_BATCHES * batch, width)
    return Job(
        Generator(hidden, width),
        x,
        y,
        batch,
        F.binary_cross_entropy_with_logits,
        critic=Critic(width, hidden),
    )


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
