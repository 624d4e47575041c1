"""What a wrong command or an impossible target gives: an exit code, one line on stderr, nothing on stdout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import torchtop

TIMEOUT_S = 120.0
# Says when it is there, then waits in a system call until its stdin is closed.
WAIT = "print('ready', flush=True); input()"
IMPORT_TORCH = f"import torch; {WAIT}"
# A checkout of torchtop is a likely place to try it in: its name must not hide a job.
JOB = (sys.executable, "-c", IMPORT_TORCH, "/home/me/torchtop/train.py")

Process = subprocess.Popen[str]
Spawn = Callable[..., Process]


def run(*args: str | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torchtop", *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def refused(code: int, *args: str | int) -> str:
    """The one line with which `torchtop ARGS` is refused."""
    done = run(*args)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("torchtop: ")
    return line


def spawned(*command: str, **environment: str) -> Process:
    """Start a program and wait until it has said "ready"."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: Process) -> None:
    process.kill()
    process.communicate(timeout=TIMEOUT_S)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """See `spawned`; ended with the test."""
    running: list[Process] = []

    def start(*command: str, **environment: str) -> Process:
        running.append(spawned(*command, **environment))
        return running[-1]

    yield start
    for process in running:
        end(process)


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A word that stands in the command line of `job` and of nothing else on this machine."""
    return f"marker-{os.getpid()}-{tmp_path_factory.getbasetemp().name}"


@pytest.fixture(scope="module")
def job(marker: str) -> Iterator[Process]:
    """A process with torch in it, idle."""
    process = spawned(*JOB, marker)
    yield process
    end(process)


@pytest.fixture
def untouched(job: Process) -> Iterator[None]:
    """The job's memory map and threads are the same afterwards: nothing was put into it."""

    def state() -> Any:
        proc = Path(f"/proc/{job.pid}")
        return (proc / "maps").read_text(), sorted(task.name for task in (proc / "task").iterdir())

    before = state()
    yield
    assert state() == before


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{torchtop.__version__}\n", "")


@pytest.mark.parametrize("args", [["nonsense"], ["export"], ["export", "1", "--format", "xml"]])
def test_a_wrong_command_line_is_a_usage_error(args: list[str]) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--for", "soon"),
        ("--for", "0"),
        ("--for", "-1s"),
        ("--for", "10 parsecs"),
        ("--every", "x"),
        ("--budget", "200%"),
        ("--budget", "0"),
        ("--budget", "much"),
    ],
)
def test_a_bad_value_is_named(job: Process, option: str, value: str) -> None:
    line = refused(2, "export", job.pid, "--format", "jsonl", f"{option}={value}")
    assert option in line
    assert repr(value) in line


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("shape", ["json", "jsonl"])
@pytest.mark.parametrize("where", ["missing/file", "."])
def test_an_unwritable_file_is_found_out_before_attaching(job: Process, tmp_path: Path, shape: str, where: str) -> None:
    path = str(tmp_path / where)
    assert path in refused(2, "export", job.pid, "--for", "1s", "--format", shape, "-o", path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_target_is_a_usage_error() -> None:
    refused(2, "export", "")


def test_no_such_process() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(TIMEOUT_S)
    assert f"no process {gone.pid}" in refused(3, "export", gone.pid)


def test_not_a_python_process(spawn: Spawn) -> None:
    process = spawn("sh", "-c", "echo ready; exec sleep 600")
    line = refused(3, "export", process.pid)
    assert f"process {process.pid} " in line
    assert "is not a Python process" in line


def test_python_without_torch(spawn: Spawn) -> None:
    process = spawn(sys.executable, "-c", WAIT)
    assert f"process {process.pid} is Python, but has not loaded PyTorch" in refused(3, "export", process.pid)


def test_a_job_that_forbids_it(spawn: Spawn) -> None:
    process = spawn(sys.executable, "-c", IMPORT_TORCH, TORCHTOP_DISABLE="1")
    line = refused(4, "export", process.pid)
    assert f"process {process.pid} " in line
    assert "TORCHTOP_DISABLE=1" in line


@pytest.mark.usefixtures("untouched")
def test_a_stopped_job(job: Process) -> None:
    job.send_signal(signal.SIGSTOP)
    try:
        _, status = os.waitpid(job.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        line = refused(4, "export", job.pid)
        assert "it is stopped" in line
        assert f"kill -CONT {job.pid}" in line
    finally:
        job.send_signal(signal.SIGCONT)


@pytest.mark.usefixtures("untouched")
def test_a_rank_that_the_job_does_not_have(job: Process) -> None:
    assert "no rank 7" in refused(2, "export", f"{job.pid}:7")


def test_part_of_a_command_line_that_nothing_has(marker: str) -> None:
    assert repr(f"no-{marker}") in refused(3, "export", f"no-{marker}")


@pytest.mark.usefixtures("untouched")
def test_part_of_the_command_line_of_two_jobs(job: Process, marker: str, spawn: Spawn) -> None:
    other = spawn(*JOB, marker)
    line = refused(2, "export", marker)
    assert repr(marker) in line
    assert str(job.pid) in line
    assert str(other.pid) in line
