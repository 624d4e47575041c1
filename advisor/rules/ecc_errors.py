"""ecc-errors: the GPU's memory had errors that it could not correct.

Defining inequality: uncorrected errors since the driver was loaded > 0 (critical: more than at the window's beginning).

## What it does
Reads the driver's count for each GPU of the job.

## Why it matters
Such an error ends the process that it hits, or leaves a page out of use. A card that has many is to be replaced.

## When it is wrong
One error may be a cosmic ray: the page is retired and the count stays until the driver is loaded again, with nothing
wrong any more. Cards without ECC give no count.

## Source
nvsonar 2.4.0 `analysis/bottleneck.py` (more than 0); NVIDIA "GPU Memory Error Management" (row remapping, XID 48, 63,
94). Tested on windows by hand; not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import Gpu, of_job
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "ecc-errors"
NEEDS = ("gpu",)
REMEDIES = ()
MIN_STEPS = 0  # a count, not a mean: it is as bad before the first step
MOST = 0  # uncorrected errors that are all right (nvsonar)


def check(seen: Seen) -> Judgement:
    """Judge the GPU of the job with most errors."""
    gpus = of_job(seen)
    if isinstance(gpus, Abstain):
        return gpus
    counts = [(gpu, told) for gpu in gpus if (told := _counts(gpu))]
    if not counts:
        return Abstain(gpus[0].latest.missing.get("ecc_uncorrected") or f"{gpus[0].label} does not count memory errors")
    gpu, told = max(counts, key=lambda one: (one[1][-1] - one[1][0], one[1][-1]))
    if told[-1] <= MOST:
        return None
    window_s = gpu.device.readings[-1].t - gpu.device.readings[0].t
    new = max(told[-1] - told[0], 0)
    return Finding(
        code=CODE,
        severity="critical" if new else "warn",
        confidence="high",
        recoverable_s=None,
        evidence=(
            number("uncorrected memory errors since the driver was loaded", told[-1], "errors", window_s),
            number("of them in this window", new, "errors", window_s),
        ),
        summary=f"the memory of {gpu.label} had {told[-1]} errors that could not be corrected"
        + (f", {new} of them while it was watched" if new else " since the driver was loaded"),
        where=gpu.where,
        remedies=REMEDIES,
    )


def _counts(gpu: Gpu) -> list[int]:
    # All readings, not only those during steps: an error that ends the job comes after its last one.
    return [one.ecc_uncorrected for one in gpu.device.readings if one.ecc_uncorrected is not None]
