"""Watching a compiled model compiles nothing anew, breaks no graph, and says steps and memory only.

Each job is compared with the same job unwatched, which runs beside it: what dynamo compiled, and every loss. Half way
through the watch the batches get smaller: the program itself has dynamo compile once more. After the watch each job runs
on, for a hook that has gone could have everything compiled anew, too.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from statistics import fmean
from typing import Any, NamedTuple

import pytest

from tests.conftest import PATIENCE_S, TORCHTOP, Start, Target
from tests.test_truth import SLACK_S, close, steps_in

BEFORE = 30  # steps before a monitor comes, where it comes after the first compilation
WATCHED = 60  # steps with a monitor
ALONE = 20  # steps when it has gone
EAGER = 20  # watched steps before the program compiles its model
SHRINK = 40  # watched steps before the batches get smaller
TRAINING = ("data", "backward", "optimizer")


class Case(NamedTuple):
    """attached: before or after the first compilation; compiles: steps of the watch in which dynamo compiles.

    seen: phases that are measured; none at all: not even steps can be.
    """

    args: tuple[str, ...]
    attached: str = "before"
    compiles: int = 2
    seen: tuple[str, ...] = TRAINING
    layers: bool = False


CASES = {
    "wrapped": Case(("--how", "wrapped")),
    "in-place-later": Case(("--how", "in-place"), "after", 1),
    "function": Case(("--how", "inside")),
    "inductor": Case(("--how", "wrapped", "--backend", "inductor")),
    "wrapped-while-armed": Case(("--how", "wrapped", "--compile-at", str(EAGER))),
    "in-place-while-armed": Case(("--how", "in-place", "--compile-at", str(EAGER))),
    "inference": Case(("--how", "wrapped", "--inference"), seen=("data",)),
    "inference-later": Case(("--how", "wrapped", "--inference"), "after", 1, seen=("data",)),
    # Its calls cannot be seen without a hook that dynamo would see as well.
    "inference-in-place": Case(("--how", "in-place", "--inference"), seen=()),
    # Nothing is compiled, though dynamo looks at every frame: also at those of our hooks.
    "left-eager": Case(("--how", "skipped"), compiles=0, seen=(*TRAINING, "forward"), layers=True),
}


def watch(target: Target, gates: tuple[int, int], enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The last snapshot of a monitor that came at the first gate and went at the second, once it said `enough`."""
    command = [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "100ms", "--sample-every", "1"]
    monitor = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert monitor.stdout is not None
    snapshot: dict[str, Any] = {}
    try:
        for line in monitor.stdout:
            snapshot = json.loads(line)
            if snapshot["job"]["ranks"][0]["state"] == "attached":
                (target.folder / f"gate-{gates[0]}").touch()
            if (target.folder / f"at-{gates[1]}").exists() and (enough(snapshot) or snapshot["window_s"] > PATIENCE_S):
                break
        monitor.send_signal(signal.SIGINT)
        _, err = monitor.communicate(timeout=PATIENCE_S)
    finally:
        monitor.kill()
    assert monitor.returncode == 130, err
    (target.folder / f"gate-{gates[1]}").touch()
    return snapshot


def ended(target: Target) -> dict[str, Any]:
    """The truth of a target that ended well and said nothing at all: torch warns where it meets a global hook."""
    out, err = target.process.communicate(timeout=PATIENCE_S)
    assert (target.process.returncode, out, err) == (0, "", "")
    truth: dict[str, Any] = json.loads((target.folder / "truth.json").read_text())
    return truth


@pytest.mark.parametrize("name", CASES)
def test_compiled(start: Start, wait_for: Callable[..., Any], name: str) -> None:
    case = CASES[name]
    first = BEFORE if case.attached == "after" else 0
    gates = (first, first + WATCHED)
    args = (*case.args, "--shrink-at", str(first + SHRINK), "--steps", str(first + WATCHED + ALONE))
    target, control = (start("compiled.py", *args, "--gates", *map(str, gates)) for _ in range(2))
    for gate in gates:
        (control.folder / f"gate-{gate}").touch()
    wait_for((target.folder / f"at-{first}").exists, "the target to wait for a monitor")

    def enough(snapshot: dict[str, Any]) -> bool:
        """All steps, and that they are of a compiled model. Of what is not seen there is nothing to wait for."""
        said = snapshot["steps"]
        last = target.step_log()[-1]["t_end"] - SLACK_S
        # Of inference, the last step ends where the next one would begin.
        known = said["ended"] is not None and said["ended"] >= last - 0.1
        return not case.seen or bool(known and said["phases_s"] and (case.layers or not said["sampled"]))

    snapshot = watch(target, gates, enough)
    truth, alone = ended(target), ended(control)
    for what in ("stats", "frames", "graph_break", "compilations", "losses_sha256", "weights_sha256"):
        assert truth[what] == alone[what], what
    assert bool(alone["compilations"]) == bool(case.compiles), "the program did not compile what it was to"
    assert truth["left"] == []
    assert snapshot["health"]["probe"]["errors"] == 0
    assert bool(snapshot["layers"]) == case.layers
    if not case.seen:
        assert snapshot["steps"]["count"] in (None, 0)
        return
    check_steps(snapshot["steps"], steps_in(snapshot, target.step_log()), case)


def check_steps(said: dict[str, Any], logged: list[dict[str, Any]], case: Case) -> None:
    """What torchtop said of the steps against what the program did."""
    assert abs(said["count"] - len(logged)) <= 1
    assert len(logged) >= (WATCHED - EAGER) // 2
    assert said["excluded"].get("compile", 0) == case.compiles
    assert {phase for phase, seconds in said["phases_s"].items() if seconds is not None} == {*case.seen, "other"}
    for phase in set(said["phases_s"]) - {*case.seen, "other"}:
        assert said["phase_reasons"][phase]
    if case.layers:
        return
    assert "compiled" in said["phase_reasons"]["forward"]
    # A compilation takes a hundred times as long as the step it is in.
    usual = sorted(logged, key=lambda step: step["step_s"])[: len(logged) - case.compiles - 1]
    for phase in case.seen:
        # The program takes its batches through a gate, which its truth file does not know as a loader.
        true = fmean(step["phases"]["slices" if phase == "data" else phase] for step in usual)
        assert close(said["phases_s"][phase], true), f"{phase}: said {said['phases_s'][phase]}, true {true}"
