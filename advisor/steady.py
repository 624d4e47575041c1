"""Keeps findings from flickering on a screen that judges anew every second. What is shown follows from the verdicts alone.

A finding has to come back before it is told, to stay away before it is taken back, and to be the heavier one for some
time before it changes places with the one above.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchtop.advisor.engine import Verdict
from torchtop.advisor.judgement import RANK
from torchtop.snapshot import Finding

_ENTERS = 3  # looks in a row before a finding is told
_LEAVES = 8  # looks in a row without it, or with a lower severity, before that is told
_SMOOTH = 0.2  # weight of the newest look in the seconds by which findings are ordered


@dataclass
class _Known:
    """What is remembered of one code."""

    finding: Finding
    present: int = 0
    absent: int = 0
    lower: int = 0
    weight: float = 0.0
    told: bool = False


class Steady:
    """Takes in each verdict, hands out what to show of it."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def settle(self, verdict: Verdict) -> Verdict:
        """The findings that have settled, worst first; who abstains is told as it is."""
        now = {finding.code: finding for finding in verdict.findings}
        for code, finding in now.items():
            self._come(self._known.setdefault(code, _Known(finding, weight=_weight(finding))), finding)
        for code, known in list(self._known.items()):
            if code not in now:
                known.present = 0
                known.absent += 1
                if known.absent >= _LEAVES or not known.told:
                    del self._known[code]
        told = [known for known in self._known.values() if known.told]
        told.sort(key=lambda known: (RANK[known.finding.severity], -known.weight, known.finding.code))
        shown = {known.finding.code for known in told}
        quiet = tuple(one for one in verdict.abstained if one.code not in shown)
        return Verdict(tuple(known.finding for known in told), quiet)

    @staticmethod
    def _come(known: _Known, finding: Finding) -> None:
        known.present += 1
        known.absent = 0
        known.told = known.told or known.present >= _ENTERS
        known.weight += _SMOOTH * (_weight(finding) - known.weight)
        if RANK[finding.severity] > RANK[known.finding.severity]:
            known.lower += 1
            if known.lower < _LEAVES:
                return  # it stays as it was told: its numbers belong to its severity
        known.lower = 0
        known.finding = finding


def _weight(finding: Finding) -> float:
    """What orders findings of one severity: seconds to be had; where time is not the point, a share, which is less."""
    return finding.recoverable_s if finding.recoverable_s is not None else 1e-9 * (finding.share or 0.0)
