"""What the engine does with the answers of rules: order, limits, abstention, suppression, calm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.advisor.windows import rank, rows, seen
from torchtop.advisor.engine import Verdict, judge
from torchtop.advisor.judgement import Abstain, Judgement, Rule
from torchtop.advisor.needs import NEEDS
from torchtop.advisor.steady import Steady
from torchtop.advisor.suppression import EXPLAINS, explained
from torchtop.seen import Seen
from torchtop.snapshot import Evidence, Finding


def finding(code: str, severity: Any = "warn", recoverable_s: float | None = 0.01, **changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "confidence": "high",
        "evidence": (Evidence(name="n", value=1.0, unit="s", window_s=20.0),),
        "summary": code,
        "where": {},
        "remedies": (),
    }
    return Finding(code=code, severity=severity, recoverable_s=recoverable_s, **{**fields, **changes})


def at(function: str, line: int) -> dict[str, object]:
    """Where a finding with a line is."""
    return {"pid": 7, "file": "/job/train.py", "function": function, "line": line}


def rule(code: str, answer: Judgement | Exception = None, **constants: Any) -> Rule:
    def check(seen: Seen) -> Judgement:
        if isinstance(answer, Exception):
            raise answer
        return answer

    known = {"CODE": code, "NEEDS": (), "REMEDIES": (), "MIN_STEPS": 0, "check": check}
    return cast(Rule, SimpleNamespace(**{**known, **constants}))


def reasons(verdict: Verdict) -> dict[str, str]:
    return {one.code: one.reason for one in verdict.abstained}


def test_worst_first_then_what_gives_back_most() -> None:
    rules = [
        rule("a", finding("a", "info", 0.09)),
        rule("b", finding("b", "warn", 0.01)),
        rule("c", finding("c", "warn", 0.02)),
        rule("d", finding("d", "critical", None)),
        rule("e", finding("e", "warn", None, share=0.4)),
        rule("f", finding("f", "warn", None, share=0.6)),
    ]
    assert [found.code for found in judge(seen(), rules).findings] == ["d", "c", "b", "f", "e", "a"]


def test_a_hint_comes_after_what_is_sure() -> None:
    hint = finding("a", "info", None, share=0.9, confidence="low")
    rules = [rule("a", hint), rule("b", finding("b", "info", None, share=0.2))]
    assert [found.code for found in judge(seen(), rules).findings] == ["b", "a"]


def test_no_cure_gives_back_more_than_the_step_has() -> None:
    (found,) = judge(seen(), [rule("a", finding("a", recoverable_s=5.0))]).findings
    assert found.recoverable_s == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_told(value: float) -> None:
    broken = finding("a", evidence=(Evidence(name="n", value=value, unit="s", window_s=1.0),))
    verdict = judge(seen(), [rule("a", broken)])
    assert verdict.findings == ()
    assert reasons(verdict) == {"a": "its numbers are not finite"}


def test_no_number_no_finding() -> None:
    assert judge(seen(), [rule("a", finding("a", evidence=()))]).findings == ()


def test_a_rule_that_breaks_takes_down_only_itself() -> None:
    verdict = judge(seen(), [rule("a", ValueError("oh")), rule("b", finding("b"))])
    assert [found.code for found in verdict.findings] == ["b"]
    assert reasons(verdict)["a"].startswith("a bug in torchtop: ValueError('oh') at test_engine.py:")


def test_what_a_rule_lacks_is_said_and_the_rule_not_asked() -> None:
    asked = rule("a", ValueError("asked"), NEEDS=("gpu", "ranks"))
    assert reasons(judge(seen(), [asked])) == {"a": "the job computes on the CPU"}
    waiting = rule("b", ValueError("asked"), MIN_STEPS=500)
    assert reasons(judge(seen(), [waiting])) == {"b": "180 of 500 steps were seen"}


@pytest.mark.parametrize("name", NEEDS)
def test_each_need_is_missing_where_nothing_was_seen(name: str) -> None:
    empty = seen(ranks=(), mode=None, host=(), usable_cores=None, world_size=None)
    assert NEEDS[name](empty)


def test_a_cause_explains_its_symptom_and_no_more() -> None:
    cause, symptoms = next(iter(EXPLAINS.items()))
    small, large = finding(symptoms[0], recoverable_s=0.019), finding(symptoms[0], recoverable_s=0.021)
    kept, suppressed = explained([finding(cause, recoverable_s=0.01), small])
    assert [found.code for found in kept] == [cause]
    assert [(one.code, one.reason) for one in suppressed] == [(small.code, f"explained by {cause}")]
    kept, suppressed = explained([finding(cause, recoverable_s=0.01), large])
    assert len(kept) == 2 and not suppressed


@pytest.mark.parametrize(
    ("cause", "symptom", "stands"),
    [
        (finding("swapping", "warn", None), finding("input-bound", "critical"), True),
        (finding("swapping", "critical", None), finding("input-bound", "critical"), False),
        (finding("unsynced-accumulation", "info", None), finding("comm-bound", "critical"), True),
        (finding("swapping", "warn", None), finding("memory-pressure", "critical", None), False),
        (finding("worker-imbalance", "warn", 0.01), finding("input-bound", "critical", 0.09), False),
        (finding("host-contended", "warn", 0.03), finding("straggler-rank", "critical", 0.05), False),
        (finding("host-contended", "warn", 0.01), finding("straggler-rank", "critical", 0.05), True),
        (
            finding("checkpoint-stall", where=at("save", 3)),
            finding("host-stall", "critical", 0.09, where=at("save", 4)),
            False,
        ),
        (finding("checkpoint-stall", where=at("save", 3)), finding("host-stall", where=at("plot", 9)), True),
        (finding("checkpoint-stall"), finding("host-stall"), True),
        (finding("straggler-rank", where={"pid": 7}), finding("input-bound", where={"pid": 7}), False),
        (finding("straggler-rank", where={"pid": 7}), finding("input-bound", where={"pid": 8}), True),
        (finding("straggler-rank", where={"pid": 7}), finding("input-bound", "critical", 0.09, where={"pid": 7}), True),
    ],
)
def test_what_is_not_explained_stands(cause: Finding, symptom: Finding, stands: bool) -> None:
    """Without seconds the cause has to be as severe; a straggler explains its own rank; one trouble has one name."""
    assert (symptom in explained([symptom, cause])[0]) == stands


def test_no_two_causes_explain_each_other() -> None:
    assert not [(a, b) for a, symptoms in EXPLAINS.items() for b in symptoms if a in EXPLAINS.get(b, ())]


def test_an_abstention_is_no_finding() -> None:
    assert judge(seen(), [rule("a", Abstain("no reason to tell"))]) == (
        (),
        judge(seen(), [rule("a", Abstain("no reason to tell"))]).abstained,
    )


def test_the_same_window_has_the_same_verdict() -> None:
    window = seen(rank(steps=rows(data=0.5)))
    assert judge(window) == judge(window)


def looks(steady: Steady, *found: Finding | None) -> list[tuple[str, ...]]:
    """What is shown after each look; None: nothing was found."""
    shown = []
    for one in found:
        verdict = steady.settle(Verdict(() if one is None else (one,), ()))
        shown.append(tuple(f"{told.code} {told.severity}" for told in verdict.findings))
    return shown


def test_a_finding_comes_back_before_it_is_told_and_stays_away_before_it_is_taken_back() -> None:
    steady, one = Steady(), finding("a")
    assert looks(steady, one, one, one) == [(), (), ("a warn",)]
    assert looks(steady, *[None] * 7) == [("a warn",)] * 7
    assert looks(steady, None) == [()]


def test_every_other_look_is_never_told() -> None:
    one = finding("a")
    assert set(looks(Steady(), *[one, None] * 10)) == {()}


def test_a_severity_rises_at_once_and_falls_slowly() -> None:
    steady = Steady()
    warn, critical = finding("a"), finding("a", "critical")
    assert looks(steady, warn, warn, warn, critical)[-1] == ("a critical",)
    assert looks(steady, *[warn] * 7) == [("a critical",)] * 7
    assert looks(steady, warn) == [("a warn",)]


def test_findings_change_places_only_when_one_is_clearly_heavier() -> None:
    steady = Steady()
    a, b = finding("a", recoverable_s=0.010), finding("b", recoverable_s=0.009)
    for _ in range(3):
        steady.settle(Verdict((a, b), ()))
    swapped = replace(a, recoverable_s=0.009), replace(b, recoverable_s=0.010)
    orders = []
    for turn in range(10):
        now = swapped if turn % 2 else (a, b)
        orders.append([found.code for found in steady.settle(Verdict(now, ())).findings])
    assert all(order == ["a", "b"] for order in orders)
    for _ in range(30):
        last = steady.settle(Verdict(swapped, ()))
    assert [found.code for found in last.findings] == ["b", "a"]
