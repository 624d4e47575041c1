"""replicated-state: every rank keeps the whole optimizer state.

Defining inequality: bytes of optimizer state of a rank x (1 - 1 / world size) >= 0.10 of the memory that the rank
uses at its peak, and >= 64 MiB; warn where memory in use is >= 0.80 of what there is (0.90 of a GPU's), else info.

## What it does
Looks at data-parallel ranks with a plain optimizer, and takes off what each would keep if the state were spread over
all.

## Why it matters
The state is the same on each rank. Spread out (ZeRO-1), each keeps its part and the ranks exchange the updated
parameters.

## When it is wrong
Spreading costs an exchange of parameters in each step. With memory to spare there is nothing to cure: it stays info
then. A model that is sharded, or a ZeroRedundancyOptimizer, is left alone.

## Source
ZeRO (Rajbhandari et al., 2020), stage 1. TraceML 0.5.0 (80 % of memory warns), gpuprof 0.7.1 (90 % of a GPU). For the
share no tool ships a threshold. In place with 2 ranks: 740,920 of 1,481,384 bytes left, measured.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.exchange import in_ddp
from torchtop.advisor.footprint import footprint, of_memory
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "replicated-state"
NEEDS = ("steps", "training", "optimizer")
REMEDIES = ("shard-optimizer", "shard-model")
MIN_STEPS = 1  # the state is there once the optimizer has stepped
SHARE = 0.10  # of the memory that a rank uses, to be had back
AT_LEAST = 64 << 20  # bytes to be had back on a rank; less is not worth an exchange in each step


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank: data-parallel ranks are alike."""
    slow = seen.slow
    assert slow is not None
    world = seen.world_size or len(seen.ranks)
    if world < 2 or not in_ddp(slow):
        return None
    if any("ZeroRedundancy" in one.kind or "deepspeed" in (one.module or "") for one in slow.facts.optimizers):
        return None
    used = footprint(seen)
    if used is None:
        return Abstain("the memory of the rank was not read")
    state = slow.optimizer_bytes
    if state is None:
        return Abstain("the optimizer's state was not seen")
    spare = state * (1 - 1 / world)
    part = min(spare / used.peak_bytes, 1.0) if used.peak_bytes else 0.0
    if spare < AT_LEAST or part < SHARE:
        return None
    return Finding(
        code=CODE,
        severity="warn" if used.pressed else "info",
        confidence="medium",
        recoverable_s=None,
        share=part,
        evidence=(
            number("optimizer state of a rank", state, "bytes", slow.window_s),
            number("not needed on each rank", spare, "bytes", slow.window_s),
            number("ranks", world, "ranks", slow.window_s),
            *of_memory(used, slow.window_s),
        ),
        summary=f"each of {world} ranks keeps all optimizer state: {part:.0%} of its memory could go{used.in_words}",
        where=place.of(slow),
        remedies=REMEDIES,
    )
