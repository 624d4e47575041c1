"""A text encoder in float32 embeds one request after another; cured, in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import torch
from job import Job
from torch import Tensor, nn


class Embedder(nn.Module):
    """The mean of what an encoder makes of each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5000, 1024)
        layer = nn.TransformerEncoderLayer(1024, 8, 2048, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(self.words(ids)).mean(1)


def server(model: nn.Module) -> Callable[[Tensor], list[float]]:
    model.eval()

    @torch.no_grad()
    def answer(ids: Tensor) -> list[float]:
        return model(ids).norm(dim=1).tolist()

    return answer


if __name__ == "__main__":
    job = Job("quantizable-inference", __file__)
    answer = server(Embedder().to(torch.bfloat16 if job.cured else torch.float32))
    while True:
        answer(torch.randint(0, 5000, (4, 32)))
        job.step(4)
