"""Train a small byte-level GPT on the opening of Shakespeare's Coriolanus (public domain), for ever."""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

CORPUS = Path(__file__).with_name("corpus.txt")
VOCABULARY = 256
CONTEXT = 128
WIDTH = 128
HEADS = 4
BLOCKS = 4
DROPOUT = 0.1
BATCH = 8


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Every window of CONTEXT bytes, with the same window one byte later as its target."""

    def __init__(self, path: Path) -> None:
        self.data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8).long()

    def __len__(self) -> int:
        return len(self.data) - CONTEXT

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.data[index : index + CONTEXT], self.data[index + 1 : index + CONTEXT + 1]


class Attention(nn.Module):
    """Causal self-attention: (batch, time, WIDTH) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, _ = x.shape
        q, k, v = self.qkv(x).view(batch, steps, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0.0, is_causal=True)
        out: Tensor = self.out(y.transpose(1, 2).reshape(batch, steps, WIDTH))
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP, each with dropout and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        x = x + self.dropout(self.mlp(self.norm2(x)))
        return x


class GPT(nn.Module):
    """Bytes (batch, time) -> logits of the next byte (batch, time, VOCABULARY)."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        h = self.dropout(self.bytes(x) + self.positions(places))
        logits: Tensor = self.head(self.norm(self.blocks(h)))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="stop after this many; for ever unless given")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    loader = DataLoader(Windows(CORPUS), batch_size=BATCH, shuffle=True, drop_last=True)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)

    epochs: Iterable[DataLoader[tuple[Tensor, Tensor]]] = itertools.repeat(loader)
    since = time.monotonic()
    for step, (x, y) in enumerate(itertools.chain.from_iterable(epochs), start=1):
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            now = time.monotonic()
            print(f"step {step} loss {loss.item():.3f} {1000 * (now - since) / 50:.0f} ms/step", flush=True)
            since = now
        if step == args.steps:
            break


if __name__ == "__main__":
    main()
