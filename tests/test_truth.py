"""What torchtop says of a job against what the job itself logged, over the same steps."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest

from tests.conftest import Start, Target

PHASES = ("data", "forward", "backward", "optimizer", "other")
Export = Callable[..., dict[str, Any]]


def watched(
    start: Start, export: Export, *args: str, window: str = "5s"
) -> tuple[dict[str, Any], Target, dict[str, Any]]:
    """(snapshot, target, its truth file) of a run that is watched for a while and then ended."""
    target = start("train.py", *args, "--steps", "100000").wait_ready()
    snapshot = export(target.pid, "--for", window)
    return snapshot, target, target.stop()


def steps_in(snapshot: dict[str, Any], target: Target) -> list[dict[str, Any]]:
    """The target's own account of the steps that torchtop saw."""
    began, ended = snapshot["steps"]["began"], snapshot["steps"]["ended"]
    return [step for step in target.step_log() if began < step["t_end"] <= ended + 0.0005]


def close(said: float, true: float) -> bool:
    """Within 5 % or 1 ms."""
    return abs(said - true) <= max(0.05 * true, 1e-3)


@pytest.mark.parametrize(
    "model",
    [
        "mlp",
        "transformer",
        "convbn",
        "rnn",
        "accumulate",
        "checkpointed",
        "autocast",
        "gan",
        "shared",
        "dictout",
        "inplace",
    ],
)
def test_steps_names_and_rates(start: Start, export: Export, model: str) -> None:
    snapshot, target, truth = watched(start, export, "--model", model)
    steps, logged = snapshot["steps"], steps_in(snapshot, target)
    assert abs(steps["count"] - len(logged)) <= 1
    samples = sum(step["samples"] for step in logged)
    assert steps["samples_per_s"] == pytest.approx(samples / (steps["ended"] - steps["began"]), rel=0.02)
    assert steps["batch_size"] == pytest.approx(truth["batch_size"], rel=0.02)
    assert steps["micro_steps"] == truth["micro_steps"] or model == "gan"
    assert snapshot["job"]["mode"] == "training"
    named = {layer["name"] for layer in snapshot["layers"]}
    assert set(truth["modules"]) == named
    assert snapshot["health"]["probe"]["errors"] == 0
    assert snapshot["health"]["probe"]["left_behind"] == []


@pytest.mark.parametrize("model", ["mlp", "transformer", "convbn", "rnn"])
def test_phases_of_the_plain_loop(start: Start, export: Export, model: str) -> None:
    snapshot, target, _ = watched(start, export, "--model", model)
    steps = snapshot["steps"]
    logged = [step for step in steps_in(snapshot, target) if not step.get("first_of_epoch")]
    true = {phase: fmean(step["phases"].get(phase, 0.0) for step in logged) for phase in PHASES}
    said = steps["phases_s"]
    assert sum(value for value in said.values() if value is not None) == pytest.approx(
        steps["sampled_mean_s"], rel=0.01
    )
    assert said["other"] <= 0.05 * steps["sampled_mean_s"]
    wrong = {phase: (said[phase], true[phase]) for phase in PHASES if not close(said[phase], true[phase])}
    assert not wrong, f"(said, true) s per step: {wrong}"


@pytest.mark.parametrize(
    ("place", "phase"), [("data", "data"), ("collate", "data"), ("optimizer", "optimizer"), ("logging", "other")]
)
def test_planted_sleep_lands_in_its_phase(start: Start, export: Export, place: str, phase: str) -> None:
    slow_s = 0.02
    snapshot, _, _ = watched(start, export, "--model", "mlp", "--slow", place, "--slow-s", str(slow_s))
    said = snapshot["steps"]["phases_s"]
    others = {name: said[name] for name in PHASES if name != phase}
    assert said[phase] >= slow_s
    plain = watched(start, export, "--model", "mlp", window="4s")[0]["steps"]["phases_s"]
    # A sleep cools caches, so the others move a little too; none of them takes the sleep itself.
    moved = {name: value - plain[name] for name, value in others.items()}
    assert all(abs(difference) < slow_s / 4 for difference in moved.values()), moved
