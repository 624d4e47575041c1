"""A Jupyter kernel: attached to while it waits for a cell, watched through two of them, and left as it was."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.conftest import TORCHTOP, Start, Target

STEPS = 150
Wait = Callable[..., Any]


def cell(kernel: Target, wait_for: Wait, number: int, code: str) -> str:
    """Run one cell and return what it printed."""
    part = kernel.folder / f"{number}.part"
    part.write_text(code)
    part.rename(kernel.folder / f"{number}.py")
    answer = kernel.folder / f"{number}.json"
    wait_for(answer.exists, f"cell {number}")
    said = json.loads(answer.read_text())
    assert said["status"] == "ok", said["error"]
    return str(said["text"])


def opened(start: Start, wait_for: Wait, python: str) -> Target:
    """A kernel whose first cell has built a model; it waits for the next."""
    kernel = start("jupyter_kernel.py", python=python, env={"OMP_NUM_THREADS": "1"}).wait_ready()
    cell(kernel, wait_for, 0, "import jupyter_cells\njupyter_cells.build()")
    kernel.pid = int((kernel.folder / "kernel.pid").read_text())
    return kernel


def closed(kernel: Target, wait_for: Wait) -> dict[str, Any]:
    """The truth of a kernel that has trained in cells 1 and 2, and still answers."""
    cell(kernel, wait_for, 3, "jupyter_cells.finish()")
    assert cell(kernel, wait_for, 4, "print(6 * 7)") == "42\n"
    kernel.stop()
    truth: dict[str, Any] = json.loads((kernel.folder / "kernel.truth").read_text())
    truth.update(json.loads((kernel.folder / "strangers.json").read_text()))
    return truth


def test_a_kernel_that_waits_all_the_time(start: Start, wait_for: Wait, framework_python: str) -> None:
    kernel = opened(start, wait_for, framework_python)
    command = [*TORCHTOP, "export", str(kernel.pid), "--for", "2s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1 and "no complete step" in done.stderr
    snapshot = json.loads(done.stdout)
    assert snapshot["job"]["mode"] == "idle" and snapshot["steps"]["mean_s"] is None
    cell(kernel, wait_for, 1, "jupyter_cells.train(3)")
    cell(kernel, wait_for, 2, "pass")
    assert closed(kernel, wait_for)["strangers"] == []


def test_idle_then_two_cells(start: Start, wait_for: Wait, framework_python: str) -> None:
    train = f"jupyter_cells.train({STEPS})"
    alone = opened(start, wait_for, framework_python)
    for number in (1, 2):
        cell(alone, wait_for, number, train)
    expected = closed(alone, wait_for)

    kernel = opened(start, wait_for, framework_python)
    command = [*TORCHTOP, "export", str(kernel.pid), "--format", "jsonl", "--every", "200ms"]
    monitor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert monitor.stdout is not None
    first = json.loads(monitor.stdout.readline())
    assert first["job"]["mode"] == "idle" and first["steps"]["count"] == 0
    assert first["job"]["ranks"][0]["state"] == "attached"
    cell(kernel, wait_for, 1, train)
    for line in monitor.stdout:  # a second or so of nothing, which is no step
        if json.loads(line)["window_s"] > first["window_s"] + 2:
            break
    cell(kernel, wait_for, 2, train)
    wait_for(lambda: json.loads(monitor.stdout.readline())["steps"]["count"] >= 2 * STEPS - 2, "the last steps")
    monitor.terminate()
    last = json.loads(monitor.communicate()[0].splitlines()[-1])
    truth = closed(kernel, wait_for)

    for name in ("losses_sha256", "weights_sha256", "steps"):
        assert truth[name] == expected[name]
    assert truth["strangers"] == []
    steps = last["steps"]
    assert last["job"]["mode"] == "training"
    assert abs(steps["count"] - 2 * STEPS) <= 2, "the first step after each wait has no beginning that was seen"
    assert {layer["name"] for layer in last["layers"]} == set(truth["modules"])
    assert last["health"]["probe"]["errors"] == 0 and last["health"]["probe"]["left_behind"] == []
    logged = [json.loads(line)["step_s"] for line in (kernel.folder / "kernel.truth.steps").read_text().splitlines()]
    assert steps["excluded"]["idle"] == 1, "the wait between the cells"
    assert steps["p95_s"] <= max(logged)
    assert steps["mean_s"] <= 2 * sorted(logged)[len(logged) // 2]
