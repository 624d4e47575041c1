"""Small real training jobs to try torchtop on. They know nothing of it, and run as plain scripts too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Demo:
    """One job: `python -m MODULE` starts it, and it runs until it is killed."""

    name: str
    module: str
    summary: str


DEMOS: tuple[Demo, ...] = (
    Demo("transformer", "torchtop.demo.transformer", "a byte-level GPT that learns Shakespeare; healthy"),
    Demo("slow-loader", "torchtop.demo.slow_loader", "a conv net that waits for images decoded in pure Python"),
    Demo("two-ranks", "torchtop.demo.two_ranks", "two DistributedDataParallel ranks over gloo"),
)
