"""Where torchtop runs and what that allows, as facts: the machines for them are not here. Real cases: test_doctor.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchtop.attach.check import Check, refuse
from torchtop.attach.permission import state, tracer
from torchtop.attach.proc import Status
from torchtop.attach.surroundings import place, yama, yama_scope
from torchtop.errors import AttachError, NoTarget


@pytest.mark.parametrize(
    ("environment", "mark", "name", "fix"),
    [
        ({}, None, None, None),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0"},
            ".dockerenv",
            "Kubernetes",
            "kubectl debug -it train-0 --image=IMAGE --profile=sysadmin --target=CONTAINER",
        ),
        ({}, ".dockerenv", "Docker", "docker run --cap-add SYS_PTRACE IMAGE CMD..."),
        ({}, "run/.containerenv", "Podman", "podman run --cap-add SYS_PTRACE IMAGE CMD..."),
        ({"SLURM_JOB_ID": "4711"}, None, "Slurm", "srun --overlap --jobid=4711 --pty bash"),
        ({"SLURM_JOB_ID": "1; rm x"}, None, "Slurm", "srun --overlap --jobid='1; rm x' --pty bash"),
    ],
)
def test_place(
    tmp_path: Path, environment: dict[str, str], mark: str | None, name: str | None, fix: str | None
) -> None:
    if mark:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).touch()
    found = place(environment, tmp_path)
    assert (found and found.name, found and found.fix) == (name, fix)


@pytest.mark.parametrize(
    ("scope", "all_allowed", "ok", "fix"),
    [
        (None, False, True, None),
        ("0", False, True, None),
        ("1", True, True, None),
        ("1", False, False, "sudo $(command -v torchtop) attach PID"),
        ("2", True, True, None),
        ("2", False, False, "sudo $(command -v torchtop) attach PID"),
        ("3", True, False, "torchtop run -- CMD..."),
    ],
)
def test_yama(scope: str | None, all_allowed: bool, ok: bool, fix: str | None) -> None:
    check = yama(scope, all_allowed)
    assert (check.ok, check.fix) == (ok, fix)


def test_yama_scope_is_read_or_absent(tmp_path: Path) -> None:
    assert yama_scope(tmp_path) is None
    (tmp_path / "sys/kernel/yama").mkdir(parents=True)
    (tmp_path / "sys/kernel/yama/ptrace_scope").write_text("1\n")
    assert yama_scope(tmp_path) == "1"


@pytest.mark.parametrize(
    ("letter", "error", "words"),
    [
        ("T", AttachError, "kill -CONT 7"),
        ("t", AttachError, "a debugger holds it stopped"),
        ("D", AttachError, "uninterruptible sleep"),
        ("Z", NoTarget, "it has ended"),
        ("X", NoTarget, "it has ended"),
    ],
)
def test_states_that_are_refused(letter: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        refuse(state(7, Status("python", letter, 0, 0, 1, (7,))))


@pytest.mark.parametrize("letter", ["R", "S", "I"])
def test_states_that_are_not(letter: str) -> None:
    refuse(state(7, Status("python", letter, 0, 0, 1, (7,))))


def test_a_debugger_that_started_the_program_is_not_to_be_killed() -> None:
    assert tracer(7, Status("python", "t", 0, 1 << 22, 1, (7,))).fix == f"kill {1 << 22}"
    assert tracer(7, Status("python", "t", 0, 1 << 22, 1 << 22, (7,))).fix is None


def test_the_first_that_blocks_is_the_refusal() -> None:
    harmless = Check("a", False, "not nice", "do this")
    with pytest.raises(AttachError, match="^no: run that$"):
        refuse(harmless, Check("b", False, "no", "run that", 4), Check("c", False, "nor this", None, 3))
