"""optimizer-state-heavy: much memory of the job is state of the optimizer.

Defining inequality: bytes of optimizer state >= 0.30 of the memory that the process uses at its peak, and >= 128 MiB;
warn where that peak is >= 0.80 of the memory there is (0.90 of a GPU's), else info.

## What it does
Compares the bytes of tensors in the optimizers' state with the resident memory of the process, or with the
allocator's peak on a GPU.

## Why it matters
Adam keeps two numbers for each parameter. In 8 bits they take a quarter; spread over the ranks, a part each.

## When it is wrong
With memory to spare there is nothing to cure: that is why it stays info then. State that lives elsewhere (offloaded)
is counted where torch keeps it.

## Source
TraceML 0.5.0 (80 % of memory warns), gpuprof 0.7.1 (90 % of a GPU). For the share no tool ships a threshold. torchao
0.18 AdamW8bit: 0.265 of the bytes, measured.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.footprint import footprint, of_memory
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "optimizer-state-heavy"
NEEDS = ("steps", "training", "optimizer")
REMEDIES = ("8bit-optimizer", "shard-optimizer")
MIN_STEPS = 1  # the state is there once the optimizer has stepped
SHARE = 0.30  # of the memory in use
AT_LEAST = 128 << 20  # bytes; less is not worth a change


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank."""
    slow = seen.slow
    assert slow is not None
    used = footprint(seen)
    if used is None:
        return Abstain("the memory of the rank was not read")
    state = slow.optimizer_bytes
    if state is None:
        return Abstain("the optimizer's state was not seen")
    part = min(state / used.peak_bytes, 1.0) if used.peak_bytes else 0.0
    if state < AT_LEAST or part < SHARE:
        return None
    kinds = " and ".join(dict.fromkeys(one.kind for one in slow.facts.optimizers))
    evidence = [number("optimizer state", state, "bytes", slow.window_s), *of_memory(used, slow.window_s)]
    if slow.parameters_bytes:
        evidence.append(number("parameters", slow.parameters_bytes, "bytes", slow.window_s))
    return Finding(
        code=CODE,
        severity="warn" if used.pressed else "info",
        confidence="medium",
        recoverable_s=None,
        share=part,
        evidence=tuple(evidence),
        summary=f"the state of {kinds} takes {part:.0%} of the memory in use{used.in_words}",
        where=place.of(slow) | {"optimizer": kinds},
        remedies=REMEDIES if (seen.world_size or 1) > 1 else REMEDIES[:1],
    )
