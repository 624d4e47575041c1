"""Asks every rule, lets causes explain symptoms, and puts what is left in order. Pure: same window, same findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from torchtop.advisor.judgement import RANK, Abstain, Judgement, Rule
from torchtop.advisor.needs import NEEDS
from torchtop.advisor.registry import RULES
from torchtop.advisor.suppression import explained
from torchtop.errors import in_words
from torchtop.seen import Seen
from torchtop.snapshot import Abstention, Finding


class Verdict(NamedTuple):
    """findings: worst first; abstained: in the order of the registry."""

    findings: tuple[Finding, ...]
    abstained: tuple[Abstention, ...]


def judge(seen: Seen, rules: Sequence[Rule] = RULES) -> Verdict:
    """What holds the job back, and which rules could not tell."""
    findings: list[Finding] = []
    abstained: list[Abstention] = []
    for rule in rules:
        answer = _ask(rule, seen)
        if isinstance(answer, Finding):
            findings.append(_within_the_step(answer, seen.step_s))
        elif isinstance(answer, Abstain):
            abstained.append(Abstention(code=rule.CODE, reason=answer.reason))
    ordered = tuple(sorted(findings, key=_order))
    kept, suppressed = explained(ordered)
    return Verdict(kept, (*suppressed, *abstained))


def _ask(rule: Rule, seen: Seen) -> Judgement:
    for name, missing in NEEDS.items():
        if name in rule.NEEDS and (reason := missing(seen)) is not None:
            return Abstain(reason)
    slow = seen.slow
    if rule.MIN_STEPS and (slow is None or len(slow.plain) < rule.MIN_STEPS):
        return Abstain(f"{len(slow.plain) if slow is not None else 0} of {rule.MIN_STEPS} steps were seen")
    try:
        answer = rule.check(seen)
    except Exception as bug:  # noqa: BLE001  # a rule that breaks must not silence the others
        return Abstain(in_words(bug))
    if isinstance(answer, Finding) and not _is_sound(answer):
        return Abstain("its numbers are not finite")
    return answer


def _is_sound(finding: Finding) -> bool:
    """Every number is one, and there is at least one."""
    numbers = [finding.recoverable_s or 0.0, finding.share or 0.0]
    for one in finding.evidence:
        numbers += [one.value, one.low or 0.0, one.high or 0.0]
    return bool(finding.evidence) and all(math.isfinite(value) for value in numbers)


def _within_the_step(finding: Finding, step_s: float | None) -> Finding:
    """No cure gives back more than the step has."""
    if finding.recoverable_s is None or step_s is None:
        return finding
    return replace(finding, recoverable_s=min(max(finding.recoverable_s, 0.0), step_s))


def _order(finding: Finding) -> tuple[int, float, bool, float, str]:
    """Severity, then seconds to be had, then share of what it is about (DESIGN 9), but hints after what is sure."""
    hint = finding.recoverable_s is None and finding.confidence == "low"
    return RANK[finding.severity], -(finding.recoverable_s or 0.0), hint, -(finding.share or 0.0), finding.code
