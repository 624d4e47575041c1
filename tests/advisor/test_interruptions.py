"""Collections and saves, put to the steps that they fell into."""

from __future__ import annotations

import pytest

from tests.advisor.windows import rank, rows
from torchtop.advisor.interruptions import interrupted_s
from torchtop.seen import GcPause, Save


def test_each_goes_to_its_step() -> None:
    steps = rows(5, 1.0, noise=0.0, end=5.0)
    slow = rank(
        steps=steps,
        gc_pauses=(GcPause(0.0, 9.0, 2, None), GcPause(1.5, 0.2, 2, None), GcPause(1.7, 0.1, 1, None)),
        saves=(Save(4.5, 0.4, "torch.save", None), Save(99.0, 0.4, "torch.save", None)),
    )
    assert interrupted_s(slow, steps) == pytest.approx([0.0, 0.3, 0.0, 0.0, 0.4])


def test_what_falls_between_the_steps_that_are_judged_is_nobodys() -> None:
    steps = rows(5, 1.0, noise=0.0, end=5.0)
    slow = rank(steps=steps, gc_pauses=(GcPause(1.5, 0.2, 2, None),))
    assert interrupted_s(slow, (steps[0], steps[4])) == [0.0, 0.0]
