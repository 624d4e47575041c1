"""The way in that Python 3.14 offers by itself. Skipped aloud where there is no such Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.cycle import cycle
from torchtop.attach import c_api, proc, remote_exec, rendezvous
from torchtop.attach.c_api import Unsuited
from torchtop.attach.connect import attach
from torchtop.errors import NothingMeasured

Waiter = Callable[[Callable[[], Any], str], Any]
WAYS = (remote_exec.METHOD,)
CYCLES = 40
SETPRIV = shutil.which("setpriv")
UNSHARE = shutil.which("unshare")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def newest() -> str:
    """A CPython of 3.14 or later."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(20, 13, -1)]
    for minor in range(14, 21):
        candidates += [str(path) for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")]
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", "import sys; sys.remote_exec"], capture_output=True, check=False)
        if done.returncode == 0:
            return candidate
    pytest.skip("there is no Python 3.14 or newer here")


@pytest.fixture(name="python", scope="module")
def python_fixture() -> str:
    """See `newest`."""
    return newest()


def scripts(pid: int) -> list[str]:
    """What of ours lies in the target's folders."""
    found = []
    for folder in rendezvous.folders(pid, proc.status(pid).uid):
        try:
            found += [name for name in os.listdir(folder) if name.startswith(f"{pid}-")]
        except OSError:
            continue
    return found


@pytest.mark.parametrize("kind", ["matmul", "malloc", "threads"])
def test_cycles(start: Start, python: str, kind: str) -> None:
    target = start("exact.py", "--kind", kind, "--seconds", "600", python=python).wait_ready()
    version = c_api.python_version(target.pid)
    assert version is not None and version >= (3, 14)
    for _ in range(CYCLES if kind != "threads" else CYCLES // 4):
        assert cycle(target.pid, ways=WAYS).method == "remote-exec"
        assert scripts(target.pid) == []
    truth = target.stop()
    assert truth["wrong"] == 0, truth["errors"]


def test_the_other_ways_work_there_too(start: Start, python: str) -> None:
    target = start("exact.py", "--kind", "malloc", "--seconds", "600", python=python).wait_ready()
    for _ in range(CYCLES // 4):
        assert cycle(target.pid, ways=("ptrace",)).method == "ptrace"
    assert cycle(target.pid).method == "ptrace", "and it comes first"
    assert target.stop()["wrong"] == 0
    sleeper = start("idle.py", "--kind", "sleep", "--busy", python=python).wait_ready()
    assert cycle(sleeper.pid).method == "ptrace-thread"
    os.kill(sleeper.pid, signal.SIGUSR1)
    assert sleeper.finish()["wrong"] == 0


def test_switched_off(start: Start, python: str) -> None:
    off = {"PYTHON_DISABLE_REMOTE_DEBUG": "1"}
    target = start("exact.py", "--kind", "matmul", "--seconds", "60", python=python, env=off).wait_ready()
    with pytest.raises(Unsuited, match="sys.remote_exec did not work"):
        attach(target.pid, ways=WAYS)
    assert scripts(target.pid) == []
    assert cycle(target.pid).method == "ptrace", "the next way is taken"
    assert target.stop()["wrong"] == 0


def test_cancelled(start: Start, python: str, wait_for: Waiter) -> None:
    """The main thread is in C all the time. When it comes back, there is nothing to run and nothing to complain of."""
    target = start("idle.py", "--kind", "mutex", "--seconds", "4", python=python).wait_ready()
    with pytest.raises(NothingMeasured) as problem:
        attach(target.pid, timeout_s=1.0, ways=WAYS)
    assert "stays" not in str(problem.value), "the request itself was found and taken back"
    assert scripts(target.pid) == []
    truth = target.finish()  # insists on an empty stderr
    assert truth["threads_more"] == 0 and truth["wrong"] == 0


@as_root
@pytest.mark.skipif(SETPRIV is None, reason="setpriv is not installed")
def test_another_users_job(start: Start, python: str) -> None:
    """Its interpreter must not run as root: it is started as the job's user."""
    assert SETPRIV is not None
    target = start("exact.py", "--kind", "matmul", "--seconds", "60", python=python, user=65534, group=65534)
    target.wait_ready()
    assert proc.status(target.pid).uid == 65534
    assert cycle(target.pid, ways=WAYS).method == "remote-exec"
    assert scripts(target.pid) == []
    assert target.stop()["wrong"] == 0


@as_root
@pytest.mark.skipif(UNSHARE is None or shutil.which("nsenter") is None, reason="unshare or nsenter is not installed")
def test_another_pid_and_mount_namespace(start: Start, python: str, tmp_path: Path) -> None:
    wrapper = tmp_path / "python-in-namespaces"
    wrapper.write_text(f'#!/bin/sh\nexec {UNSHARE} --mount --pid --fork --mount-proc {python} "$@"\n')
    wrapper.chmod(0o755)
    target = start("exact.py", "--kind", "matmul", "--seconds", "60", python=str(wrapper)).wait_ready()
    (inner,) = proc.children(target.pid)
    assert proc.status(inner).pids[-1] == 1
    assert cycle(inner, ways=WAYS).method == "remote-exec"
    assert target.stop()["wrong"] == 0


def test_older_pythons_are_not_asked(start: Start) -> None:
    target = start("exact.py", "--kind", "matmul", "--seconds", "60", python=sys.executable).wait_ready()
    if (c_api.python_version(target.pid) or (3, 10)) >= (3, 14):
        pytest.skip("torchtop itself runs on 3.14 here")
    with pytest.raises(Unsuited, match="needs Python 3.14"):
        attach(target.pid, ways=WAYS)
    assert target.stop()["wrong"] == 0
