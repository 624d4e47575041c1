"""transfer-bound: the step waits for copies from host to device.

Defining inequality: exposed seconds of copies to the device >= 0.10 of the step, by the low end of its interval.

## What it does
Compares the device's time between the end of data and the beginning of forward in which it copies, with the step. Only
what nothing else hides is counted. Where a job's phases are known by the host's clock alone, it does not judge: the
host queues a copy long before the device makes it.

## Why it matters
The GPU computes nothing while it waits for its input. Pinned memory, `non_blocking=True` and smaller dtypes (uint8
images, decoded on the device) shorten or hide the copy.

## When it is wrong
A batch that is made on the device has no copy. A copy that the loop makes inside the model's forward counts as forward.

## Source
TraceML 0.5.0 `diagnostics/step_time/policy.py` (H2D_BOUND: 10 %, 20 %, by the device's clock only); fournex 0.3.1 asks
for 15 % and 30 %, gpu-idle 0.1.0 for 10 %. Tested on windows by hand; not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor import place
from torchtop.advisor.judgement import Judgement, confidence, measured, severity
from torchtop.advisor.statistics import share
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "transfer-bound"
NEEDS = ("gpu", "steps", "phases")
REMEDIES = ("pin-memory",)
MIN_STEPS = 10  # fewer and one batch decides
WARN = 0.10  # share of the step (TraceML)
CRITICAL = 0.20  # share of the step (TraceML)


def check(seen: Seen) -> Judgement:
    """Judge the armed steps of the slowest rank."""
    slow = seen.slow
    assert slow is not None
    if slow.phases_are != "device" or all(phase.transfer is None for phase in slow.phases):
        return None
    copied = share([phase.transfer or 0.0 for phase in slow.phases], [phase.step_s for phase in slow.phases])
    if copied is None or (level := severity(copied.low, WARN, CRITICAL)) is None:
        return None
    step_s = slow.plain_mean_s or 0.0
    loader = slow.facts.loader
    pageable = loader is not None and not loader.pin_memory
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(copied.low, WARN, len(slow.phases)),
        recoverable_s=copied.mean * step_s,
        share=copied.mean,
        evidence=(
            measured("copies to the device", copied, "of the step", slow.window_s),
            measured("time of copies", copied.times(step_s), "s/step", slow.window_s),
        ),
        summary=f"the step waits {copied.mean:.0%} of its time for copies from host to device"
        + (", from memory that is not pinned" if pageable else ""),
        where=place.of(slow),
        remedies=REMEDIES if pageable else (),
    )
