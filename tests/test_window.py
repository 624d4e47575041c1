"""What a window keeps when the probe of a rank is lost and another takes its place."""

from __future__ import annotations

from typing import Any

from torchtop.probe import wire
from torchtop.record import ProbeMessage, ProcessSample
from torchtop.window import Window

PID = 7


def told(window: Window, kind: str, **body: Any) -> None:
    window.take(ProbeMessage(0.0, PID, kind, body))


def steps(window: Window, first: int, count: int, reset: bool = False) -> None:
    """Steps of 1 s, the first of which ends at `first`."""
    told(
        window,
        wire.STEP,
        rows=[[first + n, 1.0, 0, 1, None, None, None, None, None] for n in range(count)],
        reset=reset,
    )


def seen(window: Window) -> tuple[list[float], int, int]:
    """(ends of the steps, steps of the window that are only counted, steps since attach)."""
    rank = window.ranks[PID]
    return [row.t_end for row in rank.steps], rank.older, rank.total


def test_a_probe_that_says_anew_what_steps_are_speaks_for_itself_only() -> None:
    window = Window([PID], 0.0)
    steps(window, 1, 2)
    steps(window, 3, 3, reset=True)
    assert seen(window) == ([3, 4, 5], 0, 3)
    window.replace(PID)
    assert seen(window) == ([3, 4, 5], 0, 3)
    steps(window, 20, 4)
    assert seen(window) == ([3, 4, 5, 20, 21, 22, 23], 0, 7)
    steps(window, 30, 1, reset=True)
    assert seen(window) == ([3, 4, 5, 30], 0, 4)
    window.replace(PID)
    window.forget_before(25)
    steps(window, 40, 1, reset=True)
    assert seen(window) == ([30, 40], 0, 5)


def test_so_many_steps_that_the_first_are_only_counted() -> None:
    window = Window([PID], 0.0)
    steps(window, 1, 19_999)
    window.replace(PID)
    steps(window, 20_001, 5)
    assert seen(window)[1:] == (4, 20_004)
    window.replace(PID)
    steps(window, 30_000, 1, reset=True)
    assert seen(window)[1:] == (5, 20_005)


def test_what_another_probe_numbers_anew_is_forgotten() -> None:
    window = Window([PID], 0.0)
    window.take(ProcessSample(0.5, PID, PID, "R", 1.0, 100, 1, None, None, None, None, None))
    told(window, wire.MODULES, root=0, **{"class": "M"}, parameters=1, rows=[[0, 0, "", "M", 1, 4, None, True]])
    told(window, wire.SITES, first=0, frames=[[-1, "main", "train.py", 7]], calls=[[0, 0]])
    assert window.ranks[PID].sites.of(0)
    window.replace(PID)
    rank = window.ranks[PID]
    assert not rank.tree.modules and rank.sites.of(0) is None
    assert [sample.rss_bytes for sample in rank.processes] == [100]
