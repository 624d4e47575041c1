"""The programs to watch are themselves right: deterministic, and truthful about what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kinds import KINDS, ran

TARGETS = Path(__file__).parent / "targets"
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
TIMEOUT_S = 120

STEPS = dict.fromkeys(KINDS, 6)
STEPS["autocast"] = 70  # enough for the loss scale to overflow
STEPS["validated"] = STEPS["saved"] = 30  # enough for that to happen
STEPS["renewed"] = 60
# One interpreter trains all models: importing torch takes longer than any of them.
TRAIN_ALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import train
for model, steps in json.loads(sys.argv[3]).items():
    train.main(["--model", model, "--steps", str(steps), "--small", "--truth", f"{sys.argv[2]}/{model}.json"])
assert set(train.KINDS) == set(json.loads(sys.argv[3]))
"""


def run(*command: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, command)], env=ENVIRONMENT, check=True, timeout=TIMEOUT_S)


def load(path: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads(path.read_text())
    return truth


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"{path}.steps").read_text().splitlines()]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of truth files, from two processes that trained the same models."""
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for folder in (first, second):
        run("-c", TRAIN_ALL, TARGETS, folder, json.dumps(STEPS))
    return first, second


@pytest.mark.parametrize("model", STEPS)
def test_two_runs_agree_bit_for_bit(twice: tuple[Path, Path], model: str) -> None:
    first, second = (load(folder / f"{model}.json") for folder in twice)
    assert first["losses_sha256"] == second["losses_sha256"]
    assert first["weights_sha256"] == second["weights_sha256"]
    assert ran(twice[0] / f"{model}.json") == ran(twice[1] / f"{model}.json")


@pytest.mark.parametrize("model", STEPS)
def test_the_truth_is_complete(twice: tuple[Path, Path], model: str) -> None:
    path = twice[0] / f"{model}.json"
    truth, steps = load(path), steps_of(path)
    assert truth["errors"] == []
    assert truth["steps"] == STEPS[model] == len(steps)
    if KINDS[model].samples:
        assert truth["samples"] == sum(step["samples"] for step in steps)
        assert truth["samples"] == STEPS[model] * truth["batch_size"] or model == "uneven"
    else:
        assert truth["samples"] is None
    assert len(set(truth["modules"])) == len(truth["modules"])
    assert set(truth["phases_s"]) - {"slices"} == {*KINDS[model].phases, "other"}
    for step in steps:
        assert sum(step["phases"].values()) == pytest.approx(step["step_s"])
        assert truth["started"] < step["t_end"] < truth["ended"]
    assert steps[0]["first_of_epoch"] == ("data" in KINDS[model].phases)


def test_autocast_skips_a_step(twice: tuple[Path, Path]) -> None:
    path = twice[0] / "autocast.json"
    assert load(path)["skipped"] == sum(step["skipped"] for step in steps_of(path)) >= 1


@pytest.mark.parametrize(("kind", "mark", "at"), [("validated", "validation", 19), ("saved", "checkpoint", 24)])
def test_what_happens_now_and_then_is_marked(twice: tuple[Path, Path], kind: str, mark: str, at: int) -> None:
    assert [step["step"] for step in steps_of(twice[0] / f"{kind}.json") if step[mark]] == [at]


def test_lbfgs_calls_its_closure_several_times(twice: tuple[Path, Path]) -> None:
    assert all(step["closures"] > 1 for step in steps_of(twice[0] / "lbfgs.json"))


def test_hogwild_shares_its_model(tmp_path: Path) -> None:
    run(TARGETS / "hogwild.py", "--steps", "6", "--small", "--truth", tmp_path / "truth")
    whole = load(tmp_path / "truth")
    assert whole["exit_codes"] == [0, 0, 0]
    for rank, pid in enumerate(whole["pids"]):
        truth = load(tmp_path / f"truth.{rank}")
        assert (truth["pid"], truth["steps"], truth["errors"]) == (pid, 6, [])


def test_several_roots_are_told_apart(twice: tuple[Path, Path]) -> None:
    assert {"Generator:", "Generator:net.0", "Critic:"} <= set(load(twice[0] / "gan.json")["modules"])


SLEEP_S = 0.03
PLANTED = {"data": "data", "collate": "data", "optimizer": "optimizer", "logging": "other"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of truth files, one for each place that can be slow, and `stopped`, told to end before its time."""
    folder = tmp_path_factory.mktemp("planted")
    arguments = ["--model", "mlp", "--small", "--steps", "4", "--slow-s", str(SLEEP_S)]
    lines = ["import sys", "sys.path.insert(0, sys.argv[1])", "import train"]
    for place in PLANTED:
        lines.append(f"train.main({[*arguments, '--slow', place, '--truth', str(folder / place)]})")
    ends = ["--truth", str(folder / "stopped"), "--ready", str(folder / "ready"), "--stop", str(folder)]
    lines.append(f"train.main({[*arguments, *ends]})")
    run("-c", "\n".join(lines), TARGETS)
    return folder


@pytest.mark.parametrize(("place", "phase"), PLANTED.items())
def test_a_planted_sleep_is_in_its_phase(planted: Path, place: str, phase: str) -> None:
    steps = steps_of(planted / place)
    # The first step's `other` has no log to write before it.
    assert all(step["phases"][phase] >= SLEEP_S for step in steps[1:])


def test_a_stopped_run_ends_well(planted: Path) -> None:
    truth = load(planted / "stopped")
    assert truth["steps"] == 1
    assert int((planted / "ready").read_text()) == truth["pid"]


@pytest.mark.parametrize("kind", ["matmul", "malloc", "threads"])
def test_exact_finds_nothing_wrong(tmp_path: Path, kind: str) -> None:
    run(TARGETS / "exact.py", "--kind", kind, "--seconds", "0.5", "--truth", tmp_path / "truth")
    truth = load(tmp_path / "truth")
    assert (truth["wrong"], truth["errors"], truth["ended"]) == (0, [], True)
    assert all(truth["iterations_by_thread"])


def test_thread_trainer_hooks_are_exact(tmp_path: Path) -> None:
    run(TARGETS / "thread_trainer.py", "--steps", "40", "--truth", tmp_path / "truth")
    truth = load(tmp_path / "truth")
    assert (truth["steps"], truth["errors"]) == (40, [])
    assert truth["hooks_called"]["before"]["step_post"] == 40
    assert 0 < truth["hooks_called"]["after"]["step_post"] < 20


@pytest.fixture
def ctrl_c(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(TARGETS / "ctrl_c.py")]
    for name in ("truth", "ready", "stop"):
        command += [f"--{name}", str(tmp_path / name)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_counts(ctrl_c: subprocess.Popen[str], tmp_path: Path) -> None:
    assert ctrl_c.stdout is not None
    assert ctrl_c.stdout.readline() == "interrupts 0\n"
    for count in range(1, 20):
        ctrl_c.send_signal(signal.SIGINT)
        assert ctrl_c.stdout.readline() == f"interrupts {count}\n"
    (tmp_path / "stop").touch()
    assert ctrl_c.wait(TIMEOUT_S) == 0
    assert load(tmp_path / "truth")["interrupts"] == 19
    assert int((tmp_path / "ready").read_text()) == ctrl_c.pid


def test_sleeper_says_where(tmp_path: Path) -> None:
    run(TARGETS / "sleeper.py", "--seconds", "0.1", "--truth", tmp_path / "truth")
    truth = load(tmp_path / "truth")
    assert truth["ended"]
    line = (TARGETS / "sleeper.py").read_text().splitlines()[truth["line"] - 1]
    assert line.strip() == "time.sleep(seconds)"
