"""grads-kept: gradients are set to zero instead of dropped.

Defining inequality: 2 x seconds in zero_grad with set_to_none=False >= 0.05 of the time watched is warn; less is info,
and so is any on a GPU.

## What it does
Counts calls of zero_grad that keep gradients, and their seconds. The next backward has to read what was zeroed and
add to it, which moves at least as many bytes again: hence twice the seconds.

## Why it matters
Writing zeros, reading them and adding to them is memory traffic that dropping the gradients avoids: backward then
hands over what it computed.

## When it is wrong
Code that reads `.grad` between zero_grad and backward, or captures it in a CUDA graph, needs it to stay. Gradients
that are kept on purpose, over several steps, look the same: then no time is claimed. On a GPU the seconds are those of
queueing the kernels: what they take is not measured, and no time is claimed either.

## Source
torch 2.13 `_pattern_matcher.py` `GradNotSetToNonePattern` (presence). PyTorch performance tuning guide, "Use
parameter.grad = None instead of model.zero_grad()"; `set_to_none` is True by itself since torch 2.0.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.seen import RankSeen, Seen, ZeroGrad
from torchtop.snapshot import Evidence, Finding

CODE = "grads-kept"
NEEDS = ("steps", "training")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 10  # fewer and one call decides
WARN = 0.05  # share of the time; below it nobody notices
_PASSES = 2.0  # times the bytes of zeroing that zeroing and adding move at least: written; then read and written again


def check(seen: Seen) -> Judgement:
    """Judge what zero_grad was seen to do, and what backward found."""
    slow = seen.slow
    assert slow is not None
    zeroed = slow.zero_grad
    if zeroed is not None and zeroed.kept > 0 and zeroed.calls > 0:
        return _zeroed(slow, zeroed)
    if slow.facts.grads_kept is None and zeroed is None:
        return Abstain("neither zero_grad nor the beginning of backward was seen")
    if slow.facts.grads_kept and (zeroed is None or not zeroed.calls) and slow.gradients_bytes:
        return _only_kept(slow, slow.gradients_bytes)
    return None


def _zeroed(slow: RankSeen, zeroed: ZeroGrad) -> Finding | None:
    if slow.watched_s <= 0:
        return None
    taken = min(zeroed.seconds * zeroed.kept / zeroed.calls / slow.watched_s, 1.0)
    lost = min(_PASSES * taken, 1.0)
    evidence = [
        number("zero_grad", taken, "of the time", slow.watched_s),
        number("one call", zeroed.seconds / zeroed.calls, "s", slow.watched_s),
        number("calls with set_to_none=False", zeroed.kept, "calls", slow.watched_s),
        *_size(slow),
    ]
    where = place.of(slow)
    line, whose = "", "host's " if slow.on_cuda else ""
    if zeroed.at is not None:
        where |= {"file": zeroed.at.file, "line": zeroed.at.line, "function": zeroed.at.function}
        line = f" at {zeroed.at.file}:{zeroed.at.line}"
    return Finding(
        code=CODE,
        severity="warn" if lost >= WARN and not slow.on_cuda else "info",
        confidence="medium",
        recoverable_s=None if slow.on_cuda else lost * (slow.plain_mean_s or 0.0),
        share=lost,
        evidence=tuple(evidence),
        summary=f"zero_grad(set_to_none=False){line} takes {taken:.1%} of the {whose}time, and backward adds to the zeros",
        where=where,
        remedies=REMEDIES,
    )


def _only_kept(slow: RankSeen, size: int) -> Finding:
    """Nobody calls zero_grad: how they are zeroed, if they are, was not seen."""
    return Finding(
        code=CODE,
        severity="info",
        confidence="low",
        recoverable_s=None,
        share=None,
        evidence=(number("gradients kept from step to step", size, "bytes", slow.window_s),),
        summary="gradients of the step before are still there when backward begins, so that it adds to them",
        where=place.of(slow),
        remedies=REMEDIES,
    )


def _size(slow: RankSeen) -> list[Evidence]:
    return [number("gradients", slow.gradients_bytes, "bytes", slow.window_s)] if slow.gradients_bytes else []
