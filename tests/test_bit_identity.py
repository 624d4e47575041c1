"""A watched run is bit-identical to an unwatched one: SHA-256 of all losses and of all weights.

Here every step is armed; test_truth.py compares each kind of job at the rate that users get.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TORCHTOP, Start, Target

STEPS = {
    "transformer": 600,
    "convbn": 400,
    "rnn": 500,
    "accumulate": 300,
    "checkpointed": 400,
    "checkpointed-reentrant": 400,
    "autocast": 500,
}
# Those whose graph, optimizer or generator of random numbers a hook could most easily disturb.
AWKWARD = {
    "lbfgs": 500,
    "penalty": 500,
    "two-losses": 600,
    "in-backward": 800,
    "functional": 800,
    "renewed": 800,
    "wgan": 250,
    "reinforce": 120,
}
_unwatched: dict[str, dict[str, Any]] = {}


def run(start: Start, model: str, **popen: Any) -> Target:
    steps = {**STEPS, **AWKWARD}[model]
    return start("train.py", "--model", model, "--steps", str(steps), "--small", **popen)


def unwatched(start: Start, model: str) -> dict[str, Any]:
    if model not in _unwatched:
        _unwatched[model] = run(start, model).finish()
    return _unwatched[model]


def hashes(truth: dict[str, Any]) -> tuple[str, str]:
    return truth["losses_sha256"], truth["weights_sha256"]


@pytest.mark.parametrize("model", [*STEPS, *AWKWARD])
def test_watched_equals_unwatched(start: Start, export: Callable[..., dict[str, Any]], model: str) -> None:
    expected = hashes(unwatched(start, model))
    target = run(start, model).wait_ready()
    snapshot = export(target.pid, "--for", "120s", "--sample-every", "1")
    assert hashes(target.finish()) == expected
    assert snapshot["steps"]["sampled"] >= 1, "the run was over before a step was looked into"
    assert snapshot["health"]["probe"]["errors"] == 0


@pytest.mark.parametrize("model", STEPS)
def test_monitor_killed_half_way(start: Start, wait_for: Callable[..., Any], model: str) -> None:
    expected = hashes(unwatched(start, model))
    target = run(start, model).wait_ready()
    monitor = subprocess.Popen(
        [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "100ms", "--sample-every", "2"],
        stdout=subprocess.PIPE,
    )
    assert monitor.stdout is not None
    try:
        monitor.stdout.readline()
        wait_for(
            lambda: target.steps_done() >= STEPS[model] // 2 or target.process.poll() is not None, "half the steps"
        )
    finally:
        monitor.send_signal(signal.SIGKILL)
        monitor.communicate()
    assert hashes(target.finish()) == expected


@pytest.mark.parametrize("model", ["transformer", "convbn"])
def test_attached_from_root_to_another_user(start: Start, export: Callable[..., dict[str, Any]], model: str) -> None:
    """`sudo torchtop`, the common case: the job is another user's, its interpreter a static one where there is one."""
    if os.geteuid() != 0:
        pytest.skip("needs root to start a job as another user")
    site = sysconfig.get_path("purelib")
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = shutil.which(same, path="/usr/bin")
    nobody = {"user": 65534, "group": 65534, "extra_groups": ()}
    can_read = f"import sys; sys.path.insert(0, {site!r}); import torch; open({str(Path(__file__))!r})"
    if python is None or subprocess.run([python, "-c", can_read], check=False, stderr=-3, **nobody).returncode:  # type: ignore[call-overload]
        pytest.skip(f"another user cannot run /usr/bin/{same} with the torch in {site}")
    env = {"PYTHONPATH": site}
    expected = hashes(run(start, model, python=python, env=env, **nobody).finish())
    target = run(start, model, python=python, env=env, **nobody).wait_ready()
    snapshot = export(target.pid, "--for", "120s", "--sample-every", "3")
    assert hashes(target.finish()) == expected
    assert snapshot["job"]["ranks"][0]["attach"]["method"] == "ptrace"
    assert snapshot["steps"]["sampled"] >= 1
