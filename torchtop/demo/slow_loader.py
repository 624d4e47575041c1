"""Train a small conv net on images that are decoded in pure Python, one pixel at a time: the model waits."""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
import zlib
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SIDE = 32
CHANNELS = 3
CLASSES = 8
IMAGES = 512
BATCH = 32
NOISE = 120  # grey levels of 255, either way


def stripes(label: int, noise: random.Random) -> list[bytearray]:
    """Rows of RGB pixels: noisy stripes whose direction tells the class."""
    angle = math.pi * label / CLASSES
    phase = noise.uniform(0.0, math.tau)
    rows = []
    for y in range(SIDE):
        row = bytearray()
        for x in range(SIDE):
            wave = math.sin(0.8 * (x * math.cos(angle) + y * math.sin(angle)) + phase)
            for _ in range(CHANNELS):
                row.append(min(255, max(0, round(128 + 50 * wave + noise.uniform(-NOISE, NOISE)))))
        rows.append(row)
    return rows


def paeth(left: int, up: int, corner: int) -> int:
    """The neighbour nearest to left + up - corner (PNG specification, 9.4)."""
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def encode(rows: list[bytearray]) -> bytes:
    """The rows as a PNG file's data chunk holds them: Paeth-filtered, then deflated."""
    filtered = bytearray()
    above = bytearray(SIDE * CHANNELS)
    for row in rows:
        for i, value in enumerate(row):
            left, corner = (row[i - CHANNELS], above[i - CHANNELS]) if i >= CHANNELS else (0, 0)
            filtered.append((value - paeth(left, above[i], corner)) & 255)
        above = row
    return zlib.compress(bytes(filtered))


def decode(packed: bytes) -> bytearray:
    """What `encode` was given, its rows joined."""
    filtered = zlib.decompress(packed)
    width = SIDE * CHANNELS
    pixels = bytearray()
    for i, value in enumerate(filtered):
        inside = i % width >= CHANNELS
        left = pixels[i - CHANNELS] if inside else 0
        up = pixels[i - width] if i >= width else 0
        corner = pixels[i - width - CHANNELS] if inside and i >= width else 0
        pixels.append((value + paeth(left, up, corner)) & 255)
    return pixels


class Images(Dataset[tuple[Tensor, int]]):
    """IMAGES packed images and their classes; each is unpacked again whenever it is asked for."""

    def __init__(self, seed: int) -> None:
        noise = random.Random(seed)
        self.packed = [encode(stripes(index % CLASSES, noise)) for index in range(IMAGES)]

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = torch.frombuffer(decode(self.packed[index]), dtype=torch.uint8)
        image = pixels.view(SIDE, SIDE, CHANNELS).permute(2, 0, 1).float() / 255
        return image, index % CLASSES


def block(before: int, after: int) -> nn.Sequential:
    """Halves the side: (batch, before, s, s) -> (batch, after, s/2, s/2)."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class ConvNet(nn.Module):
    """Images (batch, CHANNELS, SIDE, SIDE) -> logits (batch, CLASSES)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(CHANNELS, 16), block(16, 32), block(32, 64))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="stop after this many; for ever unless given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="DataLoader worker processes")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    loader = DataLoader(Images(args.seed), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=args.workers)
    model = ConvNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    epochs: Iterable[DataLoader[tuple[Tensor, int]]] = itertools.repeat(loader)
    since = time.monotonic()
    for step, (images, labels) in enumerate(itertools.chain.from_iterable(epochs), start=1):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            now = time.monotonic()
            print(f"step {step} loss {loss.item():.3f} {50 * BATCH / (now - since):.0f} images/s", flush=True)
            since = now
        if step == args.steps:
            break


if __name__ == "__main__":
    main()
