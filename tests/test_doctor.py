"""`torchtop doctor`: each thing that stands in the way is found in a real process, and refused with the same words.

Not tested here, for want of such a machine: Yama, a ptrace call that seccomp refuses, real Docker, Kubernetes and Slurm
(tests/attach/test_permission.py has their facts as fixtures), a Python older than 3.9, another architecture.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import msgspec
import pytest

from tests.namespaces import new_tmp
from torchtop import doctor

TIMEOUT_S = 90.0
# PyTorch's smallest library is enough to look like a job from outside, and is loaded in a moment.
LOADED = """
import ctypes, os, sys
ctypes.CDLL("{torch}/lib/libtorch_global_deps.so")
{then}
print(os.getpid(), flush=True)
sys.stdin.read()
"""
TRACER = """
import ctypes, os, sys
assert ctypes.CDLL(None).ptrace(ctypes.c_long(16), int(sys.argv[1]), None, None) == 0  # PTRACE_ATTACH
os.waitpid(int(sys.argv[1]), 0x40000000)
print("0", flush=True)
sys.stdin.read()
"""
SPEC = find_spec("torch")
TORCH = SPEC.submodule_search_locations[0] if SPEC and SPEC.submodule_search_locations else ""
NOBODY = 65534
# Non-dumpable is what a process is after it has changed its user (prctl(2), PR_SET_DUMPABLE).
NON_DUMPABLE = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
DUMPABLE = f"{NON_DUMPABLE}; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)"
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
WITHOUT_PTRACE = ("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace")
READ_ONLY = "mount -o remount,ro / 2>/dev/null || mount --bind -o ro / /; "
NO_PLACE = f"{new_tmp(',ro')} mount -t tmpfs -o ro tmpfs /dev/shm && "

Process = subprocess.Popen[str]


class Case(NamedTuple):
    """One cause, made real."""

    check: str
    code: int
    found: str
    fix: str | None
    then: str = "pass"
    wrapper: tuple[str, ...] = ()
    torchtop: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    python: str = sys.executable


def in_namespace(*options: str, before: str = "") -> tuple[str, ...]:
    return ("unshare", *options, "--", "sh", "-c", f'{before}exec "$0" "$@"')


CASES = {
    "another user": Case(
        "user", 4, "belongs to another user", r"sudo \$\(command -v torchtop\) attach {pid}", torchtop=AS_NOBODY
    ),
    "non-dumpable": Case(
        "dumpable", 4, "non-dumpable", r"sudo \$\(command -v torchtop\) attach {pid}", NON_DUMPABLE, torchtop=AS_NOBODY
    ),
    "fewer capabilities": Case("capabilities", 4, r"lacks \(.*SYS_PTRACE", "docker run --cap-add|kubectl", torchtop=WITHOUT_PTRACE),
    "root without the right": Case("user", 4, "another user", "docker run --cap-add|kubectl", DUMPABLE, torchtop=WITHOUT_PTRACE),
    "disabled": Case("disabled", 4, "TORCHTOP_DISABLE=1", None, environment=(("TORCHTOP_DISABLE", "1"),)),
    "no place for a socket": Case(
        "socket", 4, "can write to none of /tmp, /dev/shm", "mount -t tmpfs", DUMPABLE, in_namespace("--mount", before=NO_PLACE)
    ),
}  # fmt: skip
OPEN = {
    "an open job": Case("state", 0, "alive", None),
    "root to another user": Case("user", 0, "does not matter", None, DUMPABLE),
    "root to a non-dumpable process": Case("user", 0, "does not matter", None, NON_DUMPABLE),
    "own user": Case("user", 0, "as torchtop does", None, DUMPABLE, torchtop=AS_NOBODY, python="/usr/bin/python3"),
    "mount namespace": Case("mount namespace", 0, "/proc/PID/root", None, wrapper=in_namespace("--mount")),
    "PID namespace": Case(
        "PID namespace", 0, "there it is process 1", None, wrapper=in_namespace("--mount", "--pid", "--mount-proc")
    ),
    "read-only root": Case(
        "socket",
        0,
        "socket into /dev/shm",
        None,
        wrapper=in_namespace("--mount", before=new_tmp(",ro")),
    ),
    "user namespace": Case(
        "user namespace", 0, "another user namespace|same user namespace", None, wrapper=in_namespace("--user")
    ),
}


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Run a program until the test ends; returns once it has printed a line."""
    running: list[Process] = []

    def run(*command: str, **environment: str) -> Process:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**{k: v for k, v in os.environ.items() if k != "TMPDIR"}, **environment},
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        return process

    yield run
    for process in reversed(running):
        assert process.stdin is not None
        process.stdin.close()
    for process in running:
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


Start = Callable[..., Process]


def loaded(then: str = "pass") -> str:
    return LOADED.format(torch=TORCH, then=then)


def torchtop(*args: str | int, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*through, sys.executable, "-m", "torchtop", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def asked(pid: int | None, through: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Exit code and checks by name."""
    done = torchtop("doctor", *([pid] if pid is not None else []), "--json", through=through)
    report = json.loads(done.stdout)
    assert done.stderr == ""
    jsonschema.validate(report, msgspec.json.schema(doctor.Report))
    return done.returncode, {check["name"]: check for check in report["checks"]}


def started(case: Case, start: Start) -> int:
    """The pid, as seen from here, of a process that shows the cause."""
    for tool in {*case.wrapper[:1], *case.torchtop[:1]}:
        if shutil.which(tool) is None or os.geteuid() != 0:
            pytest.skip(f"needs {tool} and root")
    if case.wrapper and subprocess.run([*case.wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"not permitted here: {' '.join(case.wrapper)}")
    forked = "--pid" in case.wrapper
    wrapper = tuple(
        word for option in case.wrapper for word in ((option, "--fork") if option == "--pid" else (option,))
    )
    if shutil.which(case.python) is None:
        pytest.skip(f"needs {case.python}, which every user may read")
    process = start(*wrapper, case.python, "-c", loaded(case.then), **dict(case.environment))
    if not forked:
        return process.pid
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_blocks_is_named_and_refused_alike(start: Start, case: Case) -> None:
    pid = started(case, start)
    code, checks = asked(pid, case.torchtop)
    assert code == case.code
    row = checks[case.check]
    assert row["ok"] is False
    assert re.search(case.found, row["found"])
    assert row["fix"] is None if case.fix is None else re.search(case.fix.format(pid=pid), row["fix"])
    assert [name for name, check in checks.items() if check["ok"] is False and name != "installation"] == [case.check]
    if case.check == "socket":
        return  # an attach finds out by trying
    done = torchtop("export", pid, "--for", "1s", through=case.torchtop)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"torchtop: {row['found']}{': ' + row['fix'] if row['fix'] else ''}\n"


@pytest.mark.parametrize("case", OPEN.values(), ids=OPEN)
def test_what_does_not_block_is_said_too(start: Start, case: Case) -> None:
    code, checks = asked(started(case, start), case.torchtop)
    assert [check for name, check in checks.items() if check["ok"] is False and name != "installation"] == []
    assert code == 0
    assert re.search(case.found, checks[case.check]["found"])


def test_no_such_process() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(TIMEOUT_S)
    code, checks = asked(gone.pid)
    assert code == 3
    assert "`torchtop ps` lists candidates" in checks["process"]["found"]


def test_a_zombie() -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    code, checks = asked(ended.pid)
    assert code == torchtop("export", ended.pid).returncode == 3
    assert "it has ended" in checks["state"]["found"]
    ended.wait(TIMEOUT_S)


def test_a_stopped_job(start: Start) -> None:
    process = start(sys.executable, "-c", loaded())
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        code, checks = asked(process.pid)
        assert code == 4
        assert checks["state"]["fix"] == f"kill -CONT {process.pid}"
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_a_traced_job(start: Start) -> None:
    process = start(sys.executable, "-c", loaded())
    tracer = start(sys.executable, "-c", TRACER, str(process.pid))
    code, checks = asked(process.pid)
    assert code == torchtop("export", process.pid).returncode == 4
    assert f"already traced by process {tracer.pid} (python" in checks["tracer"]["found"]
    assert checks["tracer"]["fix"] == f"kill {tracer.pid}"


def test_a_job_that_listens_needs_no_right(start: Start, wait_for: Callable[..., Any]) -> None:
    """Its socket is the way in, so a rule against ptrace is no blocker."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs setpriv and root")
    listen = (
        "import threading, types; sys.modules['torch'] = types.ModuleType('torch'); sys.path.insert(0, os.getcwd()); "
        "import torchtop.listen"
    )
    process = start(sys.executable, "-c", loaded(listen))
    said = wait_for(lambda: (found := asked(process.pid)[1]["watched"])["ok"] and found, "the job to listen")
    assert "no ptrace is needed" in said["found"]


def test_the_machine() -> None:
    code, checks = asked(None)
    assert code == 0
    assert {"system", "yama", "capability", "seccomp", "container", "nvml", "py-spy", "gdb", "cache"} <= set(checks)
    assert checks["py-spy"]["ok"]
    assert checks["installation"]["ok"] is False, "torch is in the environment of these tests"


def test_a_cache_that_cannot_be_written_has_a_line_that_helps(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "torchtop", "doctor"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")},
        check=True,
    )
    assert re.search(r"^!!  cache .*\n +export XDG_CACHE_HOME=/", done.stdout, re.MULTILINE)


def test_doctor_wants_a_pid() -> None:
    done = torchtop("doctor", "train.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give a PID" in done.stderr
