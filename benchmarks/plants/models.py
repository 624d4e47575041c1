"""The models that these jobs train."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """`depth` hidden layers of `width`."""
    layers: list[nn.Module] = [nn.Linear(inputs, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution of 3 x 3 with its norm."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def switch_off(layer: nn.Conv2d, norm: nn.BatchNorm2d, alive: int) -> None:
    """All channels of a `convolution` but the first ones, as a penalty does in the end."""
    with torch.no_grad():
        layer.weight[alive:] = 0
        norm.weight[alive:] = 0
        norm.bias[alive:] = 0


class ConvNet(nn.Module):
    """Three stages of two convolutions each; (batch, 3, side, side) -> (batch, classes)."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 3
        for wide in (width, 2 * width, 4 * width):
            for stride in (1, 2):
                stages += [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
                channels = wide
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(images).mean((2, 3)))


class Block(nn.Module):
    """Attention and a feed-forward part, each with its norm before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(self.attend(q, k, v).transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """(batch, length) of token numbers -> (batch, length, vocabulary)."""

    def __init__(self, width: int = 128, depth: int = 3, heads: int = 4, words: int = 256, longest: int = 512) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(words, width), nn.Embedding(longest, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Tagger(nn.Module):
    """(batch, length) of word numbers -> (batch, length, tags), by an LSTM."""

    def __init__(self, words: int = 2000, width: int = 96, tags: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, tags)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(ids))[0])


def token_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over all tokens."""
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten())
