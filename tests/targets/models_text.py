"""Models of token sequences, of one length and of several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from models import STORED_BATCHES, Job, class_loss
from torch import Tensor, nn


def sequences(count: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Tokens (count, length) that count upwards with some noise, and each one's successor."""
    start = torch.randint(vocabulary, (count, 1))
    jumps = (torch.rand(count, length + 1) < 0.1).long() * torch.randint(vocabulary, (count, length + 1))
    tokens = (start + torch.cumsum(1 + jumps, dim=1)) % vocabulary
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def next_token_loss(logits: Tensor, y: Tensor) -> Tensor:
    return class_loss(logits.flatten(0, 1), y.flatten())


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
        h = self.tokens(x) + self.positions[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.head(self.norm(h))
        return logits


def transformer(small: bool) -> Job:
    length, width, blocks, batch = (16, 32, 2, 4) if small else (64, 128, 4, 8)
    x, y = sequences(STORED_BATCHES * batch, length, vocabulary=64)
    return Job(Transformer(64, length, width, blocks), x, y, batch, next_token_loss)


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
