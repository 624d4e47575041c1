"""unpinned-memory: batches are copied to the device from pageable memory, and the step waits for it.

Defining inequality: pin_memory is off, and exposed seconds of copies to the device >= 0.05 of the step, by the low end
of its interval.

## What it does
Looks at the DataLoader's `pin_memory` and at what the copies cost. The setting alone is no finding: a copy that takes 1
% of the step need not be faster. Without the device's own times it does not judge.

## Why it matters
From pageable memory the driver first copies into a pinned buffer of its own, and `non_blocking=True` has no effect.
Pinned memory is read by the device directly, about twice as fast, and beside the computation.

## When it is wrong
A dataset that lives on the device has nothing to pin. A collate function that pins by itself is not seen. Pinned memory
cannot be swapped out: on a host with little memory it may do harm.

## Source
PyTorch tutorial "A guide on good usage of non_blocking and pin_memory() in PyTorch"; M. Harris, "How to Optimize Data
Transfers in CUDA C/C++", NVIDIA developer blog 2012 (pageable 2.3 GB/s, pinned 5.7 GB/s). The threshold is half of
TraceML's for copies as such, as the cure is one argument. Tested on windows by hand; not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Judgement, confidence, measured, number
from torchtop.advisor.statistics import share
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "unpinned-memory"
NEEDS = ("gpu", "steps", "loader", "phases")
REMEDIES = ("pin-memory",)
MIN_STEPS = 10  # fewer and one batch decides
LEFT = 2.3 / 5.7  # of a copy's time once its memory is pinned: GB/s pageable over pinned (NVIDIA developer blog)
WARN = 0.05  # share of the step that copies take: half of transfer-bound's, as the cure is one argument


def check(seen: Seen) -> Judgement:
    """Judge the armed steps of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    loader = slow.facts.loader
    assert loader is not None
    if loader.pin_memory or slow.phases_are != "device" or all(phase.transfer is None for phase in slow.phases):
        return None
    copied = share([phase.transfer or 0.0 for phase in slow.phases], [phase.step_s for phase in slow.phases])
    if copied is None or copied.low < WARN:
        return None
    step_s = slow.plain_mean_s or 0.0
    return Finding(
        code=CODE,
        severity="warn",
        confidence=confidence(copied.low, WARN, len(slow.phases)),
        recoverable_s=copied.mean * step_s * (1.0 - LEFT),
        share=copied.mean,
        evidence=(
            measured("copies to the device", copied, "of the step", slow.window_s),
            measured("time of copies", copied.times(step_s), "s/step", slow.window_s),
            number("pin_memory", 0, "of the DataLoader", slow.window_s),
        ),
        summary=f"batches are copied from memory that is not pinned, which takes {copied.mean:.0%} of the step",
        where=place.of(slow) | {"dataset": loader.dataset},
        remedies=REMEDIES,
    )
