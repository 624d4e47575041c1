"""Edges of checkpoint-stall: share of the time, and the line that saves."""

from __future__ import annotations

import pytest

from tests.advisor.windows import NOW, rank, rows, seen, two_ranks
from torchtop.advisor.rules import checkpoint_stall
from torchtop.seen import Save, Seen
from torchtop.snapshot import Finding, Frame

LINE = Frame(function="keep", file="/job/keep.py", line=7)


def every(period_s: float, seconds: float, count: int = 5) -> tuple[Save, ...]:
    return tuple(
        Save(t=NOW - 0.1 - period_s * at, seconds=seconds, function="torch.save", at=LINE)
        for at in range(count - 1, -1, -1)
    )


def job(*saves: Save) -> Seen:
    return seen(rank(saves=saves))


@pytest.mark.parametrize(
    ("period_s", "seconds", "count", "severity"),
    [
        (4.0, 0.36, 5, None),
        (4.0, 0.44, 5, "warn"),
        (4.0, 0.9, 5, "critical"),
        (9.0, 1.0, 2, "warn"),  # two are enough to know how often they come
        (9.0, 0.8, 2, None),
    ],
)
def test_severity_by_the_share_of_time(period_s: float, seconds: float, count: int, severity: str | None) -> None:
    found = checkpoint_stall.check(job(*every(period_s, seconds, count)))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_the_line_and_what_comes_back() -> None:
    found = checkpoint_stall.check(job(*every(4.0, 0.9)))
    assert isinstance(found, Finding)
    assert (found.where["file"], found.where["line"], found.where["function"]) == ("/job/keep.py", 7, "keep")
    assert found.recoverable_s == pytest.approx(5 * 0.9 / 200, rel=0.01)


@pytest.mark.parametrize(("seconds", "fires"), [(0.5, False), (1.9, False), (2.1, True)])
def test_one_write_is_told_only_when_it_is_long(seconds: float, fires: bool) -> None:
    """Once in 10,000 steps is fine, and of one nobody knows."""
    found = checkpoint_stall.check(job(*every(1.0, seconds, 1)))
    assert isinstance(found, Finding) == fires
    if isinstance(found, Finding):
        assert (found.severity, found.share) == ("info", None)


def test_saves_that_ended_long_ago_do_not_go_on() -> None:
    early = tuple(
        Save(t=NOW - 19 + at, seconds=0.3, function="torch.save", at=LINE) for at in range(3)
    )  # three within two seconds, then none for 17
    assert checkpoint_stall.check(job(*early)) is None


def test_a_line_that_was_not_seen_is_said_to_be_missing() -> None:
    blind = tuple(Save(t=save.t, seconds=save.seconds, function=save.function, at=None) for save in every(4.0, 0.9))
    found = checkpoint_stall.check(seen(rank(saves=blind, stacks_reason="py-spy may not read it")))
    assert isinstance(found, Finding)
    assert found.where["line_missing"] == "py-spy may not read it"


def test_the_rank_that_saves_is_named_though_others_are_as_slow() -> None:
    found = checkpoint_stall.check(two_ranks({}, {"saves": every(4.0, 0.9)}))
    assert isinstance(found, Finding)
    assert found.where["rank"] == 1


def test_no_step_beside_the_saves_is_no_matter() -> None:
    found = checkpoint_stall.check(seen(rank(saves=every(4.0, 0.9), steps=rows(1))))
    assert isinstance(found, Finding)


@pytest.mark.parametrize("files", [(1.0,), (0.2, 0.8), (0.01, 0.3, 0.6, 0.09)])
def test_files_that_are_written_in_one_step_are_one_checkpoint(files: tuple[float, ...]) -> None:
    """A Trainer writes the model, then the optimizer, then some small ones."""
    steps = rows(200)
    saves = []
    for at in (20, 60, 100, 140):
        t = steps[at].t_end - steps[at].step_s / 2
        for place, seconds in enumerate(files):
            saves.append(Save(t=t + 0.001 * place, seconds=seconds, function="torch.save", at=LINE))
    found = checkpoint_stall.check(seen(rank(steps=steps, saves=tuple(saves))))
    assert isinstance(found, Finding)
    assert found.severity == "critical" and found.evidence[0].low is not None and found.evidence[0].low > 0.2
    assert [one.value for one in found.evidence[1:3]] == [4, 4 * len(files)]
