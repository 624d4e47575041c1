"""activation-heavy: most memory of the job holds outputs that backward waits for.

Defining inequality: bytes of activations >= 0.30 of the memory that the process uses at its peak, and >= 128 MiB;
warn where that peak is >= 0.80 of the memory there is (0.90 of a GPU's), else info.

## What it does
On a CPU it adds up the outputs of leaf modules that require a gradient, of one backward pass; on a GPU it takes what
the allocator's peak has beyond parameters, gradients and optimizer state.

## Why it matters
Activations grow with batch and sequence. Computing some of them again in backward makes room for a larger batch.

## When it is wrong
Outputs that no backward function keeps are counted, tensors between operations inside a module are not: attention that
writes out its scores is found on a GPU only. With memory to spare there is nothing to cure: that is why it stays info
then.

## Source
TraceML 0.5.0 (80 % of memory warns), gpuprof 0.7.1 and torch-tb-profiler 0.4.3 (90 % of a GPU). For the share no tool
ships a threshold: at 0.30 it is a part worth having. Checkpointing kept 5.3 of 36.9 MB, measured.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.footprint import Footprint, footprint, of_memory
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "activation-heavy"
NEEDS = ("steps", "training")
REMEDIES = ("checkpoint-activations", "bf16-autocast")
MIN_STEPS = 3  # the peak of a step has to have been there
SHARE = 0.30  # of the memory in use
AT_LEAST = 128 << 20  # bytes; less is not worth a change


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank."""
    slow = seen.slow
    assert slow is not None
    used = footprint(seen)
    if used is None:
        return Abstain("the memory of the rank was not read")
    held = _on_device(slow, used) if slow.on_cuda else _on_host(slow)
    if held is None:
        return Abstain("what backward keeps was not seen")
    part = min(held / used.peak_bytes, 1.0) if used.peak_bytes else 0.0
    if held < AT_LEAST or part < SHARE:
        return None
    return Finding(
        code=CODE,
        severity="warn" if used.pressed else "info",
        confidence="medium" if slow.on_cuda else "low",
        recoverable_s=None,
        share=part,
        evidence=(number("activations", held, "bytes", slow.window_s), *of_memory(used, slow.window_s)),
        summary=f"activations take about {part:.0%} of the memory in use{used.in_words}",
        where=place.of(slow) | _largest(slow),
        remedies=REMEDIES,
    )


def _on_host(slow: RankSeen) -> float | None:
    """Bytes of one backward pass. A layer that is computed again in backward keeps nothing."""
    known = [one.activation_bytes for one in slow.layers if one.activation_bytes and one.recompute_s is None]
    return sum(known) / max(slow.micro_steps or 1.0, 1.0) if known else None


def _on_device(slow: RankSeen, used: Footprint) -> float | None:
    parts = (slow.parameters_bytes, slow.gradients_bytes, slow.optimizer_bytes)
    if any(part is None for part in parts):
        return None
    return max(float(used.peak_bytes - sum(part or 0 for part in parts)), 0.0)


def _largest(slow: RankSeen) -> dict[str, object]:
    most = max(slow.layers, key=lambda layer: layer.activation_bytes or 0, default=None)
    return {"layer": most.name} if most is not None and most.activation_bytes else {}
