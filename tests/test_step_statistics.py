"""Step times: armed and unusual ones are kept apart, and what is usual is not called unusual."""

from __future__ import annotations

import pytest

from torchtop.probe import wire
from torchtop.record import StepRow
from torchtop.step_statistics import percentile, statistics
from torchtop.window import Batch

NO_BATCH = Batch(None, None, None)


def rows(*steps: tuple[float, int], samples: float | None = 8) -> list[StepRow]:
    t, found = 0.0, []
    for step_s, flags in steps:
        t += step_s
        found.append(StepRow(t, step_s, flags, 1, samples, None, None, None))
    return found


def test_armed_and_excluded_steps_are_kept_out_of_the_mean() -> None:
    seen = statistics(rows((1.0, 0), (1.0, 0), (1.0, 0), (9.0, wire.ARMED), (5.0, wire.CHECKPOINT)), NO_BATCH)
    assert (seen.count, seen.mean_s, seen.median_s) == (5, 1.0, 1.0)
    assert seen.p95_s == 5.0
    assert seen.excluded == {"checkpoint": 1}
    assert seen.samples_per_s == pytest.approx(40 / 17)


def test_a_tag_on_most_steps_is_how_the_loop_works() -> None:
    seen = statistics(rows(*[(1.0, wire.VALIDATION)] * 9, (2.0, 0)), NO_BATCH)
    assert seen.excluded == {}
    assert seen.mean_s == pytest.approx(1.1)


def test_without_a_loader_the_armed_batch_stands_for_all() -> None:
    seen = statistics(rows((0.5, 0), (0.5, 0), samples=None), Batch(16, 16, 2048))
    assert seen.samples_per_s == pytest.approx(32)
    assert seen.tokens_per_s == pytest.approx(4096)


def test_nothing_seen_is_none() -> None:
    seen = statistics([], NO_BATCH)
    assert (seen.count, seen.mean_s, seen.p95_s, seen.samples_per_s, seen.batch_size) == (0, None, None, None, None)
    assert percentile([], 0.5) is None
