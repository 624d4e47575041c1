"""thermal-throttled: the GPU lowers its clock because it is too hot.

Defining inequality: share of busy readings with a thermal reason >= 0.10, by the low end of its interval, and the SM
clock in them <= 0.95 of its maximum (critical: >= 0.50 of readings, at <= 0.85 of it).

## What it does
Reads the driver's reasons for lowered clocks (hardware and software thermal slowdown; a hardware slowdown without a
name at 85 degrees C or more) and the clock. Of a driver that gives no reasons, temperature >= 85 degrees C with the
clock at <= 0.85 of its maximum counts instead.

## Why it matters
Everything that the GPU computes takes longer, and in a job of several GPUs all wait for the hottest one. Utilization
shows nothing of it.

## When it is wrong
Hot memory lowers clocks as well, with the same reasons but a cool GPU. A card that is hot and does not slow down is
none of this rule's business.

## Source
NVML API reference, nvmlClocksEventReasons; gpuprof 0.7.1 (SM clock 15 % down), TraceML 0.5.0 (85 degrees C), nvsonar
2.4.0 (the reasons). Recorded from published logs, not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import Gpu, clock, judged, sure
from torchtop.advisor.judgement import Abstain, Judgement, Severity, measured, number
from torchtop.advisor.statistics import Interval, mean_of_known
from torchtop.record import GpuSample
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "thermal-throttled"
NEEDS = ("gpu", "steps")
REMEDIES = ("power-limit",)
MIN_STEPS = 3  # enough to know that steps go on: the means are those of the readings
REASONS = frozenset(("sw-thermal-slowdown", "hw-thermal-slowdown"))
WARN = 0.10  # share of busy readings: below it the clock is down for moments
CRITICAL = 0.50  # share of busy readings
LOWERED = 0.95  # of the highest clock: above it nothing is lost
DEEPLY = 0.85  # of the highest clock (gpuprof: 15 % down)
HOT_C = 85.0  # degrees C (TraceML), for a driver that gives no reasons


def check(seen: Seen) -> Judgement:
    """Judge the GPU of the job that loses most."""
    found, missing = judged(seen, _judge)
    return max(found, key=lambda one: one.share or 0.0) if found else missing


def _judge(seen: Seen, gpu: Gpu) -> Finding | Abstain | None:
    if gpu.rests:
        return None
    held = gpu.mean("throttle_reasons", _held, busy=True)
    told = isinstance(held, Interval)
    if isinstance(held, Abstain):
        if any(one.throttle_reasons is not None for one in gpu.readings):
            return held
        held = gpu.mean("temperature_c", _is_hot_and_slow, busy=True)
        if isinstance(held, Abstain):
            return held
    reached = mean_of_known(gpu.values(lambda one: clock(one) if not told or _held(one) else None, busy=True))
    if held.low < WARN or reached is None or reached > (LOWERED if told else DEEPLY):
        return None
    hottest = max(gpu.values(lambda one: one.temperature_c), default=None)
    lost = held.mean * (1.0 - reached)
    step_s = seen.step_s
    return Finding(
        code=CODE,
        severity=_severity(held, reached) if told else "warn",
        confidence=sure(len(gpu.readings)) if told else "low",
        recoverable_s=lost * step_s if step_s else None,
        share=lost,
        evidence=(
            measured("clock held down by heat", held, "of busy readings", gpu.span_s),
            number("SM clock meanwhile", reached, "of its maximum", gpu.span_s),
            *([number("hottest", hottest, "degrees C", gpu.span_s)] if hottest is not None else []),
        ),
        summary=f"{gpu.label} is too hot{f' ({hottest:.0f} C)' if hottest is not None else ''}: its clock is at "
        f"{reached:.0%} of its maximum in {held.mean:.0%} of the readings",
        where=gpu.where,
        remedies=REMEDIES,
    )


def _severity(held: Interval, reached: float) -> Severity:
    return "critical" if held.low >= CRITICAL and reached <= DEEPLY else "warn"


def _held(one: GpuSample) -> float | None:
    reasons = one.throttle_reasons
    if reasons is None:
        return None
    # Older drivers do not say which slowdown it is: a power brake and heat are told apart by the temperature.
    unnamed = "hw-slowdown" in reasons and "hw-power-brake" not in reasons and (one.temperature_c or 0.0) >= HOT_C
    return float(unnamed or not REASONS.isdisjoint(reasons))


def _is_hot_and_slow(one: GpuSample) -> float | None:
    reached = clock(one)
    if one.temperature_c is None or reached is None:
        return None
    return float(one.temperature_c >= HOT_C and reached <= DEEPLY)
