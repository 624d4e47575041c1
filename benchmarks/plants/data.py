"""Made-up data. Rows repeat, so that any number of them costs little memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset


def rows(count: int, inputs: int, classes: int = 10) -> TensorDataset:
    """`count` rows of `inputs` numbers, and their classes."""
    x = torch.randn(count, inputs)
    return TensorDataset(x, (x @ torch.randn(inputs, classes)).argmax(1))


def batches(count: int, inputs: int, size: int, classes: int = 10) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(rows(count, inputs, classes), batch_size=size, shuffle=True, drop_last=True)


class Images(Dataset[tuple[Tensor, int]]):
    """`count` images of 3 x side x side."""

    def __init__(self, count: int, side: int, classes: int = 10) -> None:
        self.images = torch.randn(64, 3, side, side)
        self.count, self.classes = count, classes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index % 64], index % self.classes


class Text(Dataset[tuple[Tensor, Tensor]]):
    """`count` pieces of a text of `words` different tokens; the target is the next token."""

    def __init__(self, count: int, length: int, words: int = 256) -> None:
        self.text = torch.randint(0, words, (50_000,))
        self.count, self.length = count, length

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        begin = index * 37 % (len(self.text) - self.length - 1)
        return self.text[begin : begin + self.length], self.text[begin + 1 : begin + self.length + 1]


def text_batches(size: int, length: int, words: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, cut out of memory, as small language-model scripts do."""
    text = torch.randint(0, words, (50_000,))
    while True:
        begins = torch.randint(0, len(text) - length - 1, (size,))
        yield (
            torch.stack([text[begin : begin + length] for begin in begins]),
            torch.stack([text[begin + 1 : begin + length + 1] for begin in begins]),
        )
