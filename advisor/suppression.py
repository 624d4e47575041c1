"""Which stronger cause explains which symptom: one who reads both would cure the wrong one."""

from __future__ import annotations

from collections.abc import Sequence

from torchtop.snapshot import Abstention, Finding

# Cause -> symptoms that it explains. Kept where the symptom's own time is more than twice the cause's (gpu-idle 0.1.0:
# a weaker cause is told when the stronger one leaves half of the idle time unexplained).
EXPLAINS: dict[str, tuple[str, ...]] = {
    "input-bound": ("step-jitter", "host-stall"),
}
_LEAVES = 0.5  # share of the symptom's time that its cause must account for


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
    if symptom.recoverable_s is None or cause.recoverable_s is None:
        return True
    return cause.recoverable_s >= _LEAVES * symptom.recoverable_s
