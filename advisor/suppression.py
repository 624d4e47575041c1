"""Which stronger cause explains which symptom: one who reads both would cure the wrong one."""

from __future__ import annotations

from collections.abc import Sequence

from torchtop.advisor.judgement import RANK
from torchtop.snapshot import Abstention, Finding

_OF_ITS_RANK = ("input-bound", "host-stall", "checkpoint-stall", "gc-pauses")  # a straggler explains no other rank's
# Cause -> symptoms that it explains. Kept where the symptom's own time is more than twice the cause's (gpu-idle 0.1.0:
# a weaker cause is told when the stronger one leaves half of the idle time unexplained), or where the time of one is
# not known and the symptom is the worse one.
EXPLAINS: dict[str, tuple[str, ...]] = {
    "input-bound": ("step-jitter", "idle-device"),
    "loader-oversubscribed": ("input-bound", "host-contended", "step-jitter", "idle-device"),
    "worker-imbalance": ("input-bound", "step-jitter", "idle-device"),
    "host-stall": ("step-jitter", "idle-device"),
    "checkpoint-stall": ("step-jitter", "host-stall", "idle-device"),
    "gc-pauses": ("step-jitter", "hot-layer", "idle-device"),
    "threads-misset": ("host-contended", "step-jitter", "idle-device"),
    "host-contended": ("input-bound", "host-stall", "straggler-rank", "step-jitter", "idle-device"),
    "memory-growth": ("memory-pressure", "swapping"),
    "swapping": ("memory-pressure", "input-bound", "host-stall", "step-jitter", "idle-device"),
    "unfused-optimizer": ("launch-bound", "idle-device"),
    "unsynced-accumulation": ("comm-bound",),
    "replicated-state": ("optimizer-state-heavy",),
    "oversized-model": ("prunable-layers",),
    "small-batch": ("idle-device", "misleading-utilization"),
    # Dynamo collects garbage after each compilation.
    "recompile-storm": ("gc-pauses", "step-jitter", "host-stall", "idle-device"),
    "straggler-rank": (*_OF_ITS_RANK, "idle-device", "misleading-utilization"),
    "comm-bound": ("idle-device", "misleading-utilization"),
    "transfer-bound": ("idle-device",),
    "pcie-degraded": ("transfer-bound",),
    "host-sync": ("host-stall", "idle-device"),
    "launch-bound": ("idle-device", "energy-inefficient"),
    "data-parallel": ("idle-device", "misleading-utilization"),
    "idle-device": ("energy-inefficient",),
    "misleading-utilization": ("energy-inefficient",),
    "thermal-throttled": ("power-capped",),
}
# Only in the function that saves: it waits for the disk there, too, as in os.replace or a copy.
_IN_ITS_FUNCTION = {("checkpoint-stall", "host-stall")}
_LEAVES = 0.5  # share of the symptom's time that its cause must account for
# One trouble under two names: the cause explains the symptom whatever their seconds and severities.
_THE_SAME = {
    ("worker-imbalance", "input-bound"),
    ("swapping", "memory-pressure"),
    ("memory-growth", "memory-pressure"),
    ("memory-growth", "swapping"),
}


def explained(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], tuple[Abstention, ...]]:
    """(findings that stand, symptoms with the cause that explains each)."""
    by_code = {finding.code: finding for finding in findings}
    kept: list[Finding] = []
    suppressed: list[Abstention] = []
    for finding in findings:
        cause = next((code for code, found in by_code.items() if _explains(found, finding)), None)
        if cause is None:
            kept.append(finding)
        else:
            suppressed.append(Abstention(code=finding.code, reason=f"explained by {cause}"))
    return tuple(kept), tuple(suppressed)


def _explains(cause: Finding, symptom: Finding) -> bool:
    if symptom.code not in EXPLAINS.get(cause.code, ()):
        return False
    if (cause.code, symptom.code) in _THE_SAME:
        return True
    if (cause.code, symptom.code) in _IN_ITS_FUNCTION:
        return "line" in cause.where and all(cause.where[key] == symptom.where.get(key) for key in ("file", "function"))
    elsewhere = cause.where.get("pid") != symptom.where.get("pid")
    if cause.code == "straggler-rank" and symptom.code in _OF_ITS_RANK and elsewhere:
        return False
    if symptom.recoverable_s is None or cause.recoverable_s is None:
        return RANK[cause.severity] <= RANK[symptom.severity]
    return cause.recoverable_s >= _LEAVES * symptom.recoverable_s
