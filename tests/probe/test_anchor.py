"""Which optimizer steps are taken for the ends of steps, by the order in which optimizers step."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import pytest

from torchtop.probe.watch.anchor import NO, RESTART, YES, Anchor

SIGNS = {NO: ".", YES: "|", RESTART: "R"}


def answers(order: str, dead_after: dict[str, int] | None = None) -> str:
    """One sign for each optimizer step: `.` inside a step, `|` end of one, `R` end of one and the count begins anew.

    dead_after: position from which an optimizer no longer exists.
    """
    anchor = Anchor()
    said = ""
    for position, name in enumerate(order):
        gone = {other for other, last in (dead_after or {}).items() if position >= last}
        said += SIGNS[anchor.stepped(name, set(order) - gone)]
    return said


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param("AAAA", "R|||", id="one"),
        pytest.param("ABABABAB", "R.|.|.|.", id="two in turn"),
        pytest.param("ABCABCABC", "R..|..|..", id="three in turn"),
        pytest.param(
            "CCCGCCCCCGCCCCCGCCCCCG", "R||.|||||R.....|.....|", id="five critic steps to one of the generator"
        ),
        pytest.param("GCCCCCGCCCCCGCCCCCGCCCCCG", "R.||||.|||||R.....|.....|", id="the same, begun with the generator"),
        pytest.param("AAAAAABBBB", "R|||||.|||", id="another one from here on, the old one kept"),
    ],
)
def test_which_steps_are_ends(order: str, expected: str) -> None:
    assert answers(order) == expected


def test_a_new_optimizer_takes_over_at_once_when_the_old_one_is_gone() -> None:
    assert answers("AAAABBBB", {"A": 4}) == "R|||||||"


def test_the_rarest_stays_the_anchor_for_good() -> None:
    late = answers("CCCCCG" * 500)[-60:]
    assert late == ".....|" * 10
