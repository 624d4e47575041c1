"""Hand-made findings, and rules that could not judge, for the scenes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec.structs import replace

from torchtop.snapshot import Abstention, Evidence, Finding
from torchtop.tui.watching import Section

PID = 41001  # of the first process of every scene
FEED_A_GPU = [
    "transfer-bound",
    "unpinned-memory",
    "host-sync",
    "launch-bound",
    "idle-device",
    "misleading-utilization",
    "fp32-matmul",
    "no-autocast",
    "misaligned-dims",
    "fragmentation",
    "not-compiled",
    "data-parallel",
    "thermal-throttled",
    "power-capped",
    "pcie-degraded",
    "ecc-errors",
    "gpu-shared",
    "energy-inefficient",
]
OF_RANKS = ("straggler-rank", "rank-memory-imbalance")
ON_CPU = ("input-bound", "worker-imbalance", "host-stall", "step-jitter", "small-batch", "memory-growth", "hot-layer")

Severity = Literal["info", "warn", "critical"]


def _found(
    code: str, severity: Severity, gain_s: float | None, share: float, name: str, unit: str, said: str
) -> Finding:
    """With one number, and where it is on the first process."""
    half = 0.03 * share
    evidence = Evidence(name=name, value=share, unit=unit, window_s=58.7, low=share - half, high=share + half)
    return Finding(
        code=code,
        severity=severity,
        confidence="high" if severity == "critical" else "medium",
        recoverable_s=gain_s,
        evidence=(evidence,),
        summary=said,
        where={"rank": None, "pid": PID},
        remedies=(),
        share=share,
    )


INPUT_BOUND = _found(
    "input-bound", "critical", 0.0661, 0.6, "waiting for data", "of the step", "the step waits for its data"
)
INPUT_BOUND = replace(
    INPUT_BOUND,
    evidence=(
        *INPUT_BOUND.evidence,
        Evidence(name="time waited", value=0.0661, unit="s/step", window_s=58.7, low=0.0641, high=0.0681),
        Evidence(name="workers", value=1, unit="processes", window_s=58.7),
    ),
    summary="the step waits 60% of its time for the DataLoader, which has 1 worker",
    where={**INPUT_BOUND.where, "dataset": "Images", "file": "/home/me/data/images.py", "line": 57},
    remedies=("more-workers", "pin-memory"),
)
HOST_STALL = _found(
    "host-stall",
    "warn",
    0.0082,
    0.074,
    "outside of all phases",
    "of the step",
    "7% of the step goes by in log_metrics (train.py:88)",
)
HOST_STALL = replace(
    HOST_STALL, where={**HOST_STALL.where, "function": "log_metrics", "file": "/home/me/train.py", "line": 88}
)
UNFUSED_OPTIMIZER = _found(
    "unfused-optimizer", "info", 0.0011, 0.01, "optimizer", "of the step", "AdamW steps one tensor after the other"
)
UNFUSED_OPTIMIZER = replace(UNFUSED_OPTIMIZER, remedies=("fused-optimizer",))
UNUSED_PARAMETERS = _found(
    "unused-parameters", "info", None, 0.031, "without gradient", "of the parameters", "head.aux never had a gradient"
)
UNUSED_PARAMETERS = replace(UNUSED_PARAMETERS, where={**UNUSED_PARAMETERS.where, "layer": "head.aux"})
STRAGGLER = _found(
    "straggler-rank", "warn", 0.0098, 0.09, "slower than the others", "of the step", "the other ranks wait for rank 1"
)
STRAGGLER = replace(STRAGGLER, where={"rank": 1, "pid": PID + 1})
THROTTLED = _found(
    "thermal-throttled", "critical", 0.018, 0.167, "too hot", "of readings", "GPU 3 is held at 1410 MHz by its heat"
)
THROTTLED = replace(THROTTLED, where={"rank": 3, "pid": PID + 3, "device": 3})


# What the rule of INPUT_BOUND says of itself.
TEXT = (
    Section("", ("Defining inequality: seconds blocked in the loader's `__next__` >= 0.10 of the step.",)),
    Section("What it does", ("Compares the time blocked in the loader with the step's.", " ".join(["It does."] * 99))),
    Section("When it is wrong", ("On Sundays.",)),
)


def _unjudged(codes: Iterable[str], reason: str) -> tuple[Abstention, ...]:
    return tuple(Abstention(code=code, reason=reason) for code in codes)


NOT_FOR_CPU = (
    *_unjudged(FEED_A_GPU, "the job computes on the CPU"),
    *_unjudged(OF_RANKS, "fewer than two ranks are attached here"),
)
EARLY = _unjudged(ON_CPU, "4 of 20 steps were seen")
NOT_ATTACHED = _unjudged((*ON_CPU, *FEED_A_GPU, *OF_RANKS), "no rank is attached")
