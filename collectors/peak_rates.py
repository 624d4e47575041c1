"""How fast one core multiplies and copies: a program, run by the target's own interpreter in a process of its own.

`python peak_rates.py [FOLDER]` prints one JSON object. FOLDER, put first on the path, holds the torch to measure with.
Never loaded by the monitor. Rates are per second of CPU time of the one thread, so that a busy machine, which runs a
process of nice 19 only now and then, does not look slow; caches and memory it shares all the same.
"""

from __future__ import annotations

import json
import os
import sys
import time

NICE = 19
SECONDS = 0.3  # s of CPU for each rate
_SIDE = 1024  # rows of a square matrix: 2.1 GFLOP a product, three matrices of 4 MiB in float32
_COPIED = 64 << 20  # bytes: more than one core's share of any cache
_BLOCK_S = 0.01  # s: the clock of a thread may tick as rarely as every 4 ms


def best_rate(work, amount):
    """Most `amount` per s of CPU that a block of calls of `work` reached within `SECONDS`; the first call is left out."""
    work()
    best = 0.0
    ends = time.thread_time() + SECONDS
    while time.thread_time() < ends:
        calls, began = 0, time.thread_time()
        while time.thread_time() - began < _BLOCK_S:
            work()
            calls += 1
        best = max(best, calls * amount / (time.thread_time() - began))
    return best


def multiply(torch, dtype):
    """FLOP/s of a square matrix product; raises RuntimeError where this CPU or torch has none of that type."""
    a, b = torch.randn(2, _SIDE, _SIDE).to(dtype)
    out = torch.empty(_SIDE, _SIDE, dtype=dtype)
    return best_rate(lambda: torch.mm(a, b, out=out), 2 * _SIDE**3)


def copy(torch):
    """Bytes/s read and written together; what the cache fetches only to overwrite it is not counted."""
    source = torch.ones(_COPIED // 4)
    target = torch.zeros(_COPIED // 4)
    return best_rate(lambda: target.copy_(source), 2 * _COPIED)


def main():
    os.nice(NICE)
    sys.path[:0] = sys.argv[1:2]
    import torch

    torch.set_num_threads(1)
    rates, missing = {}, {}
    for name, measure in (
        ("float32_flops_per_s", lambda: multiply(torch, torch.float32)),
        ("bfloat16_flops_per_s", lambda: multiply(torch, torch.bfloat16)),
        ("copy_bytes_per_s", lambda: copy(torch)),
    ):
        try:
            rates[name] = measure()
        except (RuntimeError, MemoryError) as error:
            rates[name], missing[name] = None, str(error).splitlines()[0]
    print(json.dumps({"torch": str(torch.__version__), "missing": missing, **rates}))


if __name__ == "__main__":
    main()
