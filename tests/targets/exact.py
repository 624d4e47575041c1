"""Compute the same thing over and over and compare every result, bit for bit, with the first.

Standard library, and numpy where it is installed; CPython 3.9 and later.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from truth import announce, write_json

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]

SIDE = 96 if numpy else 20
THREADS = 5


def numpy_matmul(seed: int) -> Callable[[], bytes]:
    """softmax(a @ b) of two fixed matrices, as bytes."""
    source = numpy.random.default_rng(seed)
    a, b = source.standard_normal((2, SIDE, SIDE))

    def compute() -> bytes:
        logits = a @ b
        powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
        result: bytes = (powers / powers.sum(axis=1, keepdims=True)).tobytes()
        return result

    return compute


def plain_matmul(seed: int) -> Callable[[], tuple[float, ...]]:
    """The same in Python floats; no NaN can arise, so == is bit for bit but for the sign of zero."""
    source = random.Random(seed)
    a, b = [[[source.gauss(0, 1) for _ in range(SIDE)] for _ in range(SIDE)] for _ in range(2)]

    def compute() -> tuple[float, ...]:
        result = []
        for row in a:
            logits = [sum(x * y for x, y in zip(row, column)) for column in zip(*b)]
            top = max(logits)
            powers = [math.exp(x - top) for x in logits]
            total = sum(powers)
            result += [x / total for x in powers]
        return tuple(result)

    return compute


def matmul(seed: int) -> Callable[[], object]:
    return numpy_matmul(seed) if numpy else plain_matmul(seed)


def malloc(seed: int) -> Callable[[], str]:
    """Lists, dicts, strings and bytes of many sizes, made, shuffled, half of them freed, and hashed."""

    def compute() -> str:
        source = random.Random(seed)
        kept: list[Any] = []
        for index in range(400):
            size = source.randrange(1, 4000)
            kept.append(
                {
                    "bytes": bytes([index & 255]) * size,
                    "list": list(range(size % 97)),
                    "text": str(size) * 7,
                    "nested": {str(key): (key, [key]) for key in range(size % 13)},
                }
            )
            if index % 3 == 0:
                del kept[source.randrange(len(kept))]
        parts = [json.dumps([item["list"], item["text"], item["nested"]]).encode() + item["bytes"] for item in kept]
        # One hash of the whole: each call gives up the GIL, and with other threads that costs 5 ms or more.
        return hashlib.sha256(b"".join(parts)).hexdigest()

    return compute


class Loop:
    """Counts how often `compute` ran and how often it differed from its first result."""

    def __init__(self, compute: Callable[[], object]) -> None:
        self.compute = compute
        self.first = compute()
        self.iterations = 0
        self.wrong = 0
        self.errors: list[str] = []

    def run(self, over: Callable[[], bool]) -> None:
        """Until `over()`; an exception that is not ours is counted, kept, and the loop goes on."""
        while not over():
            try:
                if self.compute() != self.first:
                    self.wrong += 1
                self.iterations += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, it was raised in from outside
                self.wrong += 1
                self.errors.append(repr(error))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute one thing over and over and compare bit for bit.")
    parser.add_argument("--kind", choices=("matmul", "malloc", "threads"), required=True)
    parser.add_argument("--seconds", type=float, required=True, help="end after so long, at the latest")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end")
    parser.add_argument("--ready", metavar="FILE", help="appears when the loop starts")
    parser.add_argument("--stop", metavar="FILE", help="end well once it exists")
    args = parser.parse_args()

    if args.kind == "threads":
        loops = [Loop((matmul, malloc)[index % 2](seed=index)) for index in range(THREADS)]
    else:
        loops = [Loop(matmul(seed=0) if args.kind == "matmul" else malloc(seed=0))]
    deadline = time.monotonic() + args.seconds

    look_at = [0.0]

    def over() -> bool:
        # A main thread that gives the GIL away and takes it back all the time starves every other thread of CPython.
        now = time.monotonic()
        if now < look_at[0]:
            return False
        look_at[0] = now + 0.05
        return now >= deadline or (args.stop is not None and os.path.exists(args.stop))

    announce(args.ready)
    threads = [threading.Thread(target=loop.run, args=(over,)) for loop in loops[1:]]
    for thread in threads:
        thread.start()
    loops[0].run(over)
    for thread in threads:
        thread.join()
    write_json(
        args.truth,
        {
            "kind": args.kind,
            "numpy": numpy is not None,
            "pid": os.getpid(),
            "iterations": sum(loop.iterations for loop in loops),
            "iterations_by_thread": [loop.iterations for loop in loops],
            "wrong": sum(loop.wrong for loop in loops),
            "errors": [error for loop in loops for error in loop.errors],
            "ended": True,
        },
    )


if __name__ == "__main__":
    main()
