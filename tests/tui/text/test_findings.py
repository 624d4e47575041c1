"""Findings in words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import rank, rows, seen
from tests.tui.found import INPUT_BOUND, NOT_FOR_CPU, UNUSED_PARAMETERS
from torchtop.advisor.engine import judge
from torchtop.snapshot import Abstention, Evidence, Finding
from torchtop.tui.text.findings import Waiting, gain, groups, in_full, not_judged, number, place, waiting


def lines(finding: Finding, width: int = 80) -> list[str]:
    return [line.text for line in in_full(finding, width)]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.6021, "of the step", "60.2 % of the step"),
        (0.25, "share", "25.0 %"),
        (0.0661, "s/step", "66.1 ms/step"),
        (12.0, "s", "12.0 s"),
        (3 * 2**30, "bytes", "3.00 GiB"),
        (2**20, "bytes/s", "1.00 MiB/s"),
        (4, "processes", "4 processes"),
        (1.31, "times", "1.31 times"),
        (2.5e12, "FLOP/s", "2.50T FLOP/s"),
        (88, "degrees C", "88 degrees C"),
        (0, "steps", "0 steps"),
        (1234.5, "", "1.23k"),
        (2, "\x1b[2J", "2 ?[2J"),
    ],
)
def test_a_number(value: float, unit: str, text: str) -> None:
    assert number(Evidence(name="x", value=value, unit=unit, window_s=1.0)) == text


def test_a_mean_has_its_interval() -> None:
    assert number(INPUT_BOUND.evidence[0]) == "60.0 % of the step (58.2 % to 61.8 %)"
    assert number(INPUT_BOUND.evidence[1]) == "66.1 ms/step (64.1 ms to 68.1 ms)"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({}, []),
        ({"rank": None, "pid": 7}, ["process 7"]),
        ({"pid": 7, "rank": 0, "layer": ""}, ["layer (root)", "rank 0", "process 7"]),
        ({"file": "a.py", "line": 3, "function": "f"}, ["f (a.py:3)"]),
        ({"file": "a.py"}, ["a.py"]),
        ({"function": "f", "line": 3}, ["f"]),
        ({"layers": ("a", "b"), "user_name": "x"}, ["layers a, b", "user name x"]),
        ({"cores": 0.11623649502859, "workers": [1, 2.5]}, ["cores 0.116", "workers 1, 2.50"]),
        ({"layer": "\x1b]0;x\x07", "pid": 7}, ["layer ?]0;x?", "process 7"]),
    ],
)
def test_a_place(where: dict[str, Any], said: list[str]) -> None:
    assert place(where) == said


def test_what_a_cure_could_give_back() -> None:
    assert gain(INPUT_BOUND) == "up to 66.1 ms/step (60.0 %)"
    assert gain(UNUSED_PARAMETERS) == "3.10 %"
    assert gain(replace(UNUSED_PARAMETERS, share=None)) == ""
    assert gain(replace(INPUT_BOUND, share=None)) == "up to 66.1 ms/step"


def test_everything_that_is_known() -> None:
    assert lines(INPUT_BOUND) == [
        "!! input-bound                                       up to 66.1 ms/step (60.0 %)",
        "   the step waits 60% of its time for the DataLoader, which has 1 worker",
        "   at          /home/me/data/images.py:57, dataset Images, process 41001",
        "   measured    over 58.7 s",
        "               waiting for data: 60.0 % of the step (58.2 % to 61.8 %)",
        "               time waited: 66.1 ms/step (64.1 ms to 68.1 ms)",
        "               workers: 1 processes",
        "   confidence  high",
        "   cured by    more-workers, pin-memory",
    ]


def test_numbers_of_several_windows_have_each_its_own() -> None:
    almost = replace(INPUT_BOUND.evidence[2], window_s=60.0)
    assert "   measured    over 58.7 s to 60.0 s" in lines(
        replace(INPUT_BOUND, evidence=(INPUT_BOUND.evidence[1], almost))
    )
    short = replace(INPUT_BOUND.evidence[2], window_s=3.0)
    text = "\n".join(lines(replace(INPUT_BOUND, evidence=(INPUT_BOUND.evidence[1], short))))
    assert "ms), over 58.7 s" in text
    assert "workers: 1 processes, over 3.00 s" in text


@pytest.mark.parametrize("width", [30, 40, 79, 200])
@pytest.mark.parametrize("finding", [INPUT_BOUND, UNUSED_PARAMETERS], ids=lambda finding: finding.code)
def test_it_fits(finding: Finding, width: int) -> None:
    bare = replace(finding, where={}, remedies=(), summary="")
    for one in (finding, bare):
        found = lines(one, width)
        assert max(map(len, found)) <= width
        assert gain(one) in " ".join(" ".join(found).split())


def test_rules_with_the_same_reason_are_one_group() -> None:
    found = groups((Abstention(code="swapping", reason="too few readings"), *NOT_FOR_CPU))
    assert [(group.reason, len(group.codes)) for group in found] == [
        ("the job computes on the CPU", 18),
        ("fewer than two ranks are attached here", 2),
        ("too few readings", 1),
    ]
    text = not_judged(NOT_FOR_CPU, 80)
    assert text[0].startswith("  18  the job computes on the CPU: transfer-bound, ")
    assert all(line.startswith("      ") for line in text[1:4])
    assert len(text) < 8
    assert not_judged((), 80) == []


def test_how_far_the_rules_are_that_lack_steps() -> None:
    """As the engine says it: where it says it otherwise, this fails."""
    few = judge(seen(rank(steps=rows(2))))
    found = waiting(few.abstained)
    assert found is not None
    assert found.seen == 2 < found.needed
    assert found.rules >= 1
    assert waiting(NOT_FOR_CPU) is None


def test_of_several_the_one_that_needs_most() -> None:
    reasons = ("4 of 10 steps were seen", "4 of 20 steps were seen", "1 of 3 steps were looked into")
    abstained = [Abstention(code=reason, reason=reason) for reason in reasons]
    assert waiting(abstained) == Waiting(4, 20, 3)
