"""pcie-degraded: the GPU's PCIe link is slower than card and slot allow, while the GPU works.

Defining inequality: lanes x rate of a lane now < that at most, in every busy reading (warn: <= 0.25 of it, or copies to
the device take >= 0.05 of the step).

## What it does
Looks at generation and width of the link in readings with utilization >= 0.5 only: an idle GPU lowers its link to
generation 1 to save power, and raises it again for work.

## Why it matters
Batches, checkpoints and, without NVLink, gradients go through it. A card that is not well seated or a faulty riser
often runs on with fewer lanes.

## When it is wrong
A job that computes for long without a copy may leave the link low. Virtual machines may show a link that is not the
real one. Where copies take no time, nothing is lost: info.

## Source
nvsonar 2.4.0 `analysis/bottleneck.py` (below the maximum); NVML API reference, nvmlDeviceGetCurrPcieLinkGeneration and
MaxPcieLinkWidth (what card and system can do together); PCI-SIG rates of a lane. Recorded from published logs, not yet
seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import Gpu, of_job
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.advisor.statistics import Interval, share
from torchtop.record import GpuSample
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "pcie-degraded"
NEEDS = ("gpu", "steps")
REMEDIES = ()
MIN_STEPS = 3  # enough to know that steps go on: the link of a GPU that rests is not judged
FEWEST = 5  # busy readings: the link takes a moment to wake up
WARN = 0.25  # of the bandwidth that card and slot can have: 4 lanes of 16, or two generations less
COPIES = 0.05  # share of the step that copies take: from there on a slower link is felt
GB_PER_S = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}  # GB/s of one lane (PCI-SIG), by generation


def check(seen: Seen) -> Judgement:
    """Judge the GPU of the job with the poorest link."""
    gpus = of_job(seen)
    if isinstance(gpus, Abstain):
        return gpus
    if not any(gpu.values(_link) for gpu in gpus):
        latest = gpus[0].latest
        return Abstain(latest.missing.get("pcie_generation") or f"the link of {gpus[0].label} is not known")
    # The best of a window is what the link can do: it only sleeps at other times.
    judged = [(gpu, max(links)) for gpu in gpus if len(links := gpu.values(_link, busy=True)) >= FEWEST]
    if not judged:
        return None  # no GPU of the job was busy long enough: nothing is slow for its link
    gpu, ratio = min(judged, key=lambda one: one[1])
    return None if ratio >= 1.0 else _found(seen, gpu, ratio)


def _found(seen: Seen, gpu: Gpu, ratio: float) -> Finding:
    copies = _copies(gpu)
    felt = copies is not None and copies.low >= COPIES
    step_s, latest = seen.step_s, gpu.latest
    return Finding(
        code=CODE,
        severity="warn" if felt or ratio <= WARN else "info",
        confidence="high" if felt else "medium",
        recoverable_s=copies.mean * (1.0 - ratio) * step_s if copies is not None and step_s else None,
        share=1.0 - ratio,
        evidence=(
            number("PCIe bandwidth", ratio, "of what card and slot can have", gpu.span_s),
            number("generation", latest.pcie_generation or 0, f"of {latest.pcie_generation_max}", gpu.span_s),
            number("lanes", latest.pcie_width or 0, f"of {latest.pcie_width_max}", gpu.span_s),
        ),
        summary=f"{gpu.label} is connected by PCIe {latest.pcie_generation} x{latest.pcie_width}, and could have "
        f"{latest.pcie_generation_max} x{latest.pcie_width_max}",
        where=gpu.where,
        remedies=REMEDIES,
    )


def _copies(gpu: Gpu) -> Interval | None:
    """Share of the step in copies to the device, where the device's own times are known."""
    rank = gpu.rank
    if rank.phases_are != "device" or all(phase.transfer is None for phase in rank.phases):
        return None
    return share([phase.transfer or 0.0 for phase in rank.phases], [phase.step_s for phase in rank.phases])


def _link(one: GpuSample) -> float | None:
    """Bandwidth now by that at most, 0..1."""
    now, most = GB_PER_S.get(one.pcie_generation or 0), GB_PER_S.get(one.pcie_generation_max or 0)
    if now is None or most is None or not one.pcie_width or not one.pcie_width_max:
        return None
    return min(now * one.pcie_width / (most * one.pcie_width_max), 1.0)
