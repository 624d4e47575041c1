"""Layers, made in columns, are what they are when each is made alone; and they are made when something has changed."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest

from tests import many_layers
from torchtop.layer_report import called_modules, layers
from torchtop.probe import wire
from torchtop.record import ProbeMessage
from torchtop.roofline import BEST_LAYER, CALIBRATED, Peaks
from torchtop.snapshot import Layer
from torchtop.window import RankWindow

MODEL = many_layers.model(40)
LOSSES = range(len(MODEL.names), len(MODEL.names) + 3)  # a loss that the loop makes anew for each step


def say(window: RankWindow, *messages: many_layers.Message) -> None:
    for body in messages:
        window.take(ProbeMessage(t=1.0, rank_pid=window.pid, type=body["type"], body=body))


def arm(window: RankWindow, number: int) -> None:
    """One armed step: the first modules recompute, the last are left out of every other step, each has its own loss."""
    body = many_layers.armed(MODEL, number, 100.0 + number, 1.0)
    loss = LOSSES[number % len(LOSSES)]
    extra = [wire.mark(wire.FORWARD_BEGIN, loss), wire.mark(wire.FORWARD_END, loss)]
    extra += [wire.mark(wire.RECOMPUTE_BEGIN, 3), wire.mark(wire.RECOMPUTE_END, 3)] if number == 2 else []
    left_out = len(MODEL.names) - 1 if number % 2 else None
    say(window, many_layers.with_marks(body, 99.5 + number, extra, left_out))


@pytest.fixture
def window() -> RankWindow:
    found = RankWindow(7)
    say(found, *many_layers.modules(MODEL), many_layers.facts())
    row = {"root": 0, "class": "CrossEntropyLoss", "parameters": 0}
    for loss in LOSSES:
        rows = [[loss, loss, "", "CrossEntropyLoss", 0, 0, None, True]]
        say(found, {"v": wire.VERSION, "type": wire.MODULES, **row, "root": loss, "rows": rows})
    for number in range(5):
        arm(found, number)
    return found


def made_alone(window: RankWindow, name: str, indices: Any) -> tuple[float | None, ...]:
    """The times of one layer from the times of its modules in each step, one after the other."""
    steps = list(window.armed)
    times = [step.modules[index] for step in steps for index in indices if index in step.modules]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(steps) if known else None

    own = sum(one.self_forward_s + (one.self_backward_s or 0.0) for one in times)
    return (
        sum(one.calls for one in times) / len(steps),
        mean([one.forward_s for one in times]),
        mean([one.backward_s for one in times]),
        mean([one.self_forward_s for one in times]),
        mean([one.self_backward_s for one in times]),
        mean([one.recompute_s for one in times]),
        own / len(steps) / fmean(step.step_s for step in steps),
    )


def times_of(layer: Layer) -> tuple[float | None, ...]:
    own = (layer.forward_s, layer.backward_s, layer.self_forward_s, layer.self_backward_s, layer.recompute_s)
    return (layer.calls, *own, layer.share)


def test_in_columns_as_one_by_one(window: RankWindow) -> None:
    rows, left_out = layers(window, 0)
    named = called_modules(window)
    assert (len(rows), left_out) == (len(MODEL.names) + 1, 0)
    assert {row.name: times_of(row) for row in rows} == {
        name: made_alone(window, name, indices) for name, indices in named.items()
    }
    assert next(row for row in rows if row.type == "CrossEntropyLoss").calls == 1.0
    assert sum(row.recompute_s is not None for row in rows) == 1
    assert {row.backward_s is None for row in rows} == {True, False}


def test_made_again_only_when_there_is_something_new(window: RankWindow) -> None:
    first = layers(window, 0)
    say(window, many_layers.steps(200.0, 0.05, 20), many_layers.health(20))
    assert layers(window, 0) is first
    arm(window, 5)
    second = layers(window, 0)
    assert second != first
    window.forget_before(103.0)
    assert layers(window, 0) not in (first, second)
    assert layers(window, 1)[0][0].rank == 1
    say(window, {**many_layers.facts(), "facts": {"devices": ["cuda"]}})
    assert layers(window, 0)[0][0].forward_s is None


def test_what_is_too_much_is_counted(window: RankWindow) -> None:
    rows, left_out = layers(window, 0, limit=10)
    assert (len(rows), left_out) == (10, len(MODEL.names) + 1 - 10)


def test_each_layer_says_what_bounds_it_and_by_whose_peaks(window: RankWindow) -> None:
    known = Peaks((("float32", 1e12),), 1e10, CALIBRATED)
    against_best = {row.bound_peaks for row in layers(window, 0)[0]}
    against_known = layers(window, 0, known)[0]
    assert against_best == {BEST_LAYER, None}
    assert {row.bound_peaks for row in against_known} == {CALIBRATED, None}
    linear = next(row for row in against_known if row.type == "Linear")
    assert linear.flops is not None and linear.self_forward_s is not None and linear.flops_per_s is not None
    assert linear.flops_per_s == linear.flops / linear.self_forward_s
    assert linear.bound_share == max(linear.flops_per_s / 1e12, (linear.bytes_per_s or 0.0) / 1e10)
    assert layers(window, 0, known)[0] is against_known
