"""power-capped: the power limit holds the clock down.

Defining inequality: share of busy readings with the power cap as the reason >= 0.50, by the low end of its interval,
and the SM clock <= 0.85 of its maximum, with power >= 0.90 of the limit: info; with a limit <= 0.80 of what the card is
sold with, or with power <= 0.80 of the limit times the share of capped readings (which then is not what caps it), or
with a power brake from outside in >= 0.10 of the readings: warn.

## What it does
Reads the driver's reasons, power, limit and clock in readings with utilization >= 0.5. A card at its own limit under
full load is as it should be: it is only noted, with how far the clock is down. Power is a mean over a second, the
reason is of a moment: a card that is at its limit for half of the time draws at least half of it.

## Why it matters
A limit that somebody lowered costs clock. A power brake is the supply or the rack that orders the card to slow down,
and a cap far below the limit is a cable, a supply or a board that gives less than it should: faults both.

## When it is wrong
Limits are lowered on purpose, to save energy or because of the rack. The clock's maximum is seldom reached by matrix
products, so the time that can be had is less than the clock says.

## Source
nvsonar 2.4.0 `analysis/bottleneck.py` (more than 90 % of the limit with the reason); gpuprof 0.7.1 (clock 15 % down);
NVML API reference, nvmlClocksEventReasons; NVIDIA datasheets (board power). Recorded from published logs, not yet seen
live.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torchtop.advisor.gpus import Gpu, clock, judged, of_limit, sure
from torchtop.advisor.judgement import Abstain, Judgement, measured, number
from torchtop.advisor.statistics import Interval
from torchtop.record import GpuSample
from torchtop.seen import Seen
from torchtop.snapshot import Evidence, Finding

CODE = "power-capped"
NEEDS = ("gpu", "steps")
REMEDIES = ("power-limit",)
MIN_STEPS = 3  # enough to know that steps go on: the means are those of the readings
CAPPED = 0.50  # share of busy readings that are capped
BRAKED = 0.10  # share of busy readings with a power brake: never a normal state
AT_LIMIT = 0.90  # of the limit (nvsonar)
BELOW_LIMIT = 0.80  # of the limit while capped: what caps there is not the limit, but the board or the supply
CLOCK = 0.85  # of the highest clock (gpuprof: 15 % down)
LOWERED = 0.80  # of the limit that the card is sold with
# W of the board as NVIDIA's datasheets have it, by the name that NVML gives.
SOLD_WITH = {
    r"Tesla V100-SXM2-.*": 300.0,
    r"Tesla V100-PCIE-.*": 250.0,
    r"(Tesla|NVIDIA) T4": 70.0,
    r"(NVIDIA )?A100-SXM4-.*": 400.0,
    r"(NVIDIA )?A100-PCIE-40GB": 250.0,
    r"NVIDIA A100 80GB PCIe": 300.0,
    r"NVIDIA A10": 150.0,
    r"NVIDIA A30": 165.0,
    r"NVIDIA L4": 72.0,
    r"NVIDIA L40S": 350.0,
    r"NVIDIA H100 PCIe": 350.0,
    r"NVIDIA H100 80GB HBM3": 700.0,
    r"NVIDIA H200": 700.0,
}


def check(seen: Seen) -> Judgement:
    """Judge the GPU of the job whose clock is lowest for want of power."""
    found, missing = judged(seen, _judge)
    # A brake or a lowered limit on one GPU matters more than the usual cap of another.
    return max(found, key=lambda one: (one.severity == "warn", one.share or 0.0)) if found else missing


def _judge(seen: Seen, gpu: Gpu) -> Finding | Abstain | None:
    if gpu.rests:
        return None
    capped = gpu.mean("throttle_reasons", _is("sw-power-cap"), busy=True)
    braked = gpu.mean("throttle_reasons", _is("hw-power-brake"), busy=True)
    power = gpu.mean("power_w", of_limit, busy=True)
    reached = gpu.mean("sm_clock_mhz", clock, busy=True)
    for one in (capped, braked, power, reached):
        if isinstance(one, Abstain):
            return one
    assert isinstance(capped, Interval) and isinstance(braked, Interval)
    assert isinstance(power, Interval) and isinstance(reached, Interval)
    if reached.high > CLOCK:
        return None
    because, is_fault = _why(gpu, capped, braked, power)
    if because is None:
        return None
    lost, step_s = 1.0 - reached.mean, seen.step_s
    return Finding(
        code=CODE,
        severity="warn" if is_fault else "info",
        confidence=sure(len(gpu.readings)),
        recoverable_s=lost * step_s if is_fault and step_s else None,
        share=lost,
        evidence=(
            measured("clock held down by the power cap", capped, "of busy readings", gpu.span_s),
            measured("clock held down by a power brake", braked, "of busy readings", gpu.span_s),
            measured("power", power, "of the limit", gpu.span_s),
            measured("SM clock", reached, "of its maximum", gpu.span_s),
            *_limits(gpu),
        ),
        summary=f"{gpu.label} runs at {reached.mean:.0%} of its highest clock: {because}",
        where=gpu.where,
        remedies=REMEDIES,
    )


def _why(gpu: Gpu, capped: Interval, braked: Interval, power: Interval) -> tuple[str | None, bool]:
    """(what holds the clock down, whether that is out of order); (None, ...) when it is not power."""
    if braked.low >= BRAKED:
        return "a power brake from outside is pulled, by the power supply or the rack", True
    if capped.low < CAPPED:
        return None, False
    limit_w, sold_with_w = gpu.latest.power_limit_w, _sold_with(gpu)
    if power.high <= BELOW_LIMIT * capped.low:
        return f"power is capped at {power.mean:.0%} of the limit, which the limit itself does not explain", True
    if power.low < AT_LIMIT:
        return None, False
    if limit_w and sold_with_w and limit_w <= LOWERED * sold_with_w:
        return f"the power limit is {limit_w:.0f} W, the card is sold with {sold_with_w:.0f} W", True
    return f"it is at its power limit{f' of {limit_w:.0f} W' if limit_w else ''}, as under full load it may be", False


def _limits(gpu: Gpu) -> list[Evidence]:
    limit_w, sold_with_w = gpu.latest.power_limit_w, _sold_with(gpu)
    found = [] if limit_w is None else [number("power limit", limit_w, "W", gpu.span_s)]
    return found if sold_with_w is None else [*found, number("sold with", sold_with_w, "W", gpu.span_s)]


def _sold_with(gpu: Gpu) -> float | None:
    name = gpu.latest.name or ""
    return next((watts for pattern, watts in SOLD_WITH.items() if re.fullmatch(pattern, name)), None)


def _is(reason: str) -> Callable[[GpuSample], float | None]:
    return lambda one: None if one.throttle_reasons is None else float(reason in one.throttle_reasons)
