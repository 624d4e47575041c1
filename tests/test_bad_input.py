"""Cause -> exit code, what is said, the line that fixes it; one line on stderr, nothing on stdout, the job unharmed.

The job compares every step with its first, bit for bit, and writes down after each how many differed.

Rows that stand elsewhere, where the cause is made in another way:
- test_cli: no such PID, not Python, Python without torch, TORCHTOP_DISABLE=1, unknown rank, wrong options, unwritable -o
- test_ranks, attach/test_job: a launcher means its job
- test_doctor: zombie, non-dumpable, fewer capabilities, no place for a socket
- test_socket: stale socket, a folder of another user, another version, everything that may be said on the socket
- test_several_clients: a fifth client, two attaches at once, a second lease (two surgeons)
- attach/test_native_thread: main thread asleep; test_ranks: a rank that dies or is started anew
- test_detach: Ctrl-C, SIGTERM, SIGHUP and kill -9 while watching; test_export: `| head -1`

Not tested, for want of such a machine: Yama, real Docker and Kubernetes, seccomp without ptrace, a network file system
that hangs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import TARGETS, TORCHTOP, Target, wait_for
from tests.namespaces import new_tmp
from torchtop.attach import proc, rendezvous

ROOT = os.geteuid() == 0
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
TRACER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
assert libc.ptrace(ctypes.c_long(0x4206), int(sys.argv[1]), None, None) == 0  # PTRACE_SEIZE: it runs on
print("ready", flush=True)
sys.stdin.read()
"""
# Listens as root, in a folder that only root may enter, but as another user: what a stolen descriptor could look like.
OTHER_USER = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
os.seteuid(65534)
sock.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def started(folder: Path, *args: str, wrapper: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> Any:
    """bad_job.py, running; killed at the end if it still does."""
    files = ("--truth", "truth.json", "--ready", "ready", "--stop", "stop")
    process = subprocess.Popen(
        [*wrapper, sys.executable, str(TARGETS / "bad_job.py"), *args, *files],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    try:
        yield Target(process, folder).wait_ready()
    finally:
        (folder / "stop").touch()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The job of all rows that do not need one of their own."""
    folder = tmp_path_factory.mktemp("job")
    with tempfile.TemporaryDirectory(dir="/tmp") as short, started(folder, environment={"TMPDIR": short}) as target:
        target.tmpdir = short
        yield target


def unharmed(target: Target) -> None:
    """It goes on, and what it computes is what it computed first."""
    before = target.steps_done()
    wait_for(lambda: target.steps_done() > before + 3, "the job to go on")
    assert target.step_log()[-2]["wrong"] == 0


@contextmanager
def beside(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.communicate()


@contextmanager
def stopped(target: Target) -> Iterator[None]:
    os.kill(target.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, target.pid, os.WSTOPPED | os.WNOWAIT)
    yield
    os.kill(target.pid, signal.SIGCONT)


@contextmanager
def served_by_another_user(target: Any) -> Iterator[None]:
    meeting = rendezvous.new_meeting(target.pid)
    place = Path(meeting.folders[0])
    assert str(place).startswith(target.tmpdir)
    place.mkdir(mode=0o700)
    with beside(OTHER_USER, str(place / meeting.file)):
        yield
    shutil.rmtree(place)


class Row(NamedTuple):
    """One cause. `{pid}` stands for the job's, `{tmp}` for a folder."""

    code: int
    phrase: str
    fix: str
    meanwhile: Callable[[Target], AbstractContextManager[Any]] = lambda target: nullcontext()
    options: tuple[str, ...] = ("--for", "1s")
    through: tuple[str, ...] = ()
    shell: str = ""
    """After the command, in a shell."""


ROWS = {
    "stopped": Row(4, "it is stopped", "kill -CONT {pid}", stopped),
    "already traced": Row(4, "is already traced by process", "kill ", lambda target: beside(TRACER, str(target.pid))),
    "another user's": Row(4, "belongs to another user", "sudo $(command -v torchtop) attach {pid}", through=AS_NOBODY),
    "another user on the socket": Row(4, "served by another user", "", served_by_another_user),
    "full disk, lines": Row(
        2, "No space left on device", "", options=("--format", "jsonl", "--every", "200ms", "-o", "/dev/full")
    ),
    "full disk, one document": Row(2, "No space left on device", "", shell="> /dev/full"),
    "closed standard output": Row(2, "standard output is closed", "-o", shell=">&-"),
    "not a file to write to": Row(2, "cannot write {tmp}/no/file", "-o", options=("-o", "{tmp}/no/file")),
}


@pytest.mark.parametrize("cause", ROWS)
def test_refused_in_one_line(job: Target, tmp_path: Path, cause: str) -> None:
    row = ROWS[cause]
    if row.through and (not ROOT or shutil.which(row.through[0]) is None):
        pytest.skip(f"needs root and {row.through[0]}")
    if cause == "another user on the socket" and not ROOT:
        pytest.skip("needs root to act as another user")

    def filled(text: str) -> str:
        return text.replace("{pid}", str(job.pid)).replace("{tmp}", str(tmp_path))

    command = [*row.through, *TORCHTOP, "export", str(job.pid), *map(filled, row.options)]
    if row.shell:
        command = ["sh", "-c", f'exec "$0" "$@" {row.shell}', *command]
    with row.meanwhile(job):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (row.code, "", 1), done.stderr
    assert done.stderr.startswith("torchtop: ")
    assert filled(row.phrase) in done.stderr and filled(row.fix) in done.stderr
    assert list(tmp_path.iterdir()) == []
    unharmed(job)


def test_a_disk_that_fills_up(job: Target, tmp_path: Path) -> None:
    """Lines: those that fit stay whole. One document: all or nothing, the old file stays."""
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False, stderr=-3)
    if mount.returncode:
        pytest.skip("may not mount a small file system here")
    try:
        lines, document = tmp_path / "lines", tmp_path / "document"
        document.write_text("of yesterday")
        command = [*TORCHTOP, "export", str(job.pid), "--format", "jsonl", "--every", "100ms", "-o", str(lines)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "No space left on device; the job runs on, detached" in done.stderr
        kept = lines.read_text()
        assert kept.endswith("\n") and all(json.loads(line) for line in kept.splitlines())
        done = subprocess.run(
            [*TORCHTOP, "export", str(job.pid), "--for", "1s", "-o", str(document)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["document", "lines"]
        assert document.read_text() == "of yesterday"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    unharmed(job)


def test_nowhere_to_keep_state(job: Target, export: Callable[..., Any]) -> None:
    """No folder of the user's may be written to: nothing is lost but what would have been kept."""
    command = [*TORCHTOP, "export", str(job.pid), "--for", "1s"]
    nowhere = {"HOME": "/proc/nowhere", "XDG_STATE_HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **nowhere}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["steps"]["count"] > 0
    unharmed(job)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=lambda s: s.name)
def test_ended_while_it_waits_for_a_safe_point(tmp_path: Path, number: signal.Signals) -> None:
    """Ours, or the job: both end at once, and neither harms the other."""
    with started(tmp_path, "--busy") as target:
        monitor = subprocess.Popen(
            [*TORCHTOP, "export", str(target.pid), "--for", "60s"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Its message for the target lies there: the attach waits.
        wait_for(lambda: any("x" in m.permissions and not m.path for m in proc.mappings(target.pid)), "the attach")
        began = time.monotonic()
        if number == signal.SIGKILL:
            os.kill(target.pid, number)
        else:
            monitor.send_signal(number)
        out, err = monitor.communicate(timeout=60)
        assert time.monotonic() - began < 30, "it did not wait for its time to be up"
        assert out == "" and err.count("\n") <= 1
        if number == signal.SIGKILL:
            assert monitor.returncode == 3 and f"process {target.pid} ended" in err
        else:
            assert monitor.returncode == 130
            assert target.process.poll() is None
            target.process.kill()  # it would not look at its stop file


def test_killed_while_watched(tmp_path: Path) -> None:
    with started(tmp_path) as target:
        monitor = subprocess.Popen(
            [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "200ms"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert monitor.stdout is not None
        while not json.loads(monitor.stdout.readline())["steps"]["count"]:
            pass
        os.kill(target.pid, signal.SIGKILL)
        target.process.wait(60)
        rest, err = monitor.communicate(timeout=60)
        last = json.loads(rest.splitlines()[-1])
        assert (monitor.returncode, err) == (0, "")
        rank = last["job"]["ranks"][0]
        assert (rank["state"], rank["stage"]) == ("lost", "ended")
        assert rank["reason"] in (
            "the process has ended (killed by SIGKILL)",
            "the process has ended",
        )  # before Linux 6.15
        assert last["steps"]["count"] > 0


# What the job was started through -> as its own processes see the world
REACHED = {
    "a mount namespace of its own": ("unshare", "--mount", "--"),
    "a PID namespace of its own": ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--"),
    "a private /tmp": ("unshare", "--mount", "--", "sh", "-c", f'{new_tmp()} exec "$0" "$@"'),
    "a read-only /tmp": (
        "unshare",
        "--mount",
        "--",
        "sh",
        "-c",
        f'{new_tmp(",ro")} exec "$0" "$@"',
    ),
}


@pytest.mark.parametrize("through", REACHED)
def test_reached_all_the_same(through: str, tmp_path: Path, export: Callable[..., Any]) -> None:
    wrapper = REACHED[through]
    if wrapper[0] == "unshare" and subprocess.run([*wrapper, "true"], check=False, stderr=-3).returncode:
        pytest.skip("may not make a namespace here")
    # torch makes this folder when the first optimizer is made, below /tmp unless told.
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as cache,
        started(tmp_path, wrapper=wrapper, environment={"TORCHINDUCTOR_CACHE_DIR": cache}) as target,
    ):
        pid = proc.children(target.pid)[0] if "--fork" in wrapper else target.pid
        seen = export(pid, "--for", "1s")
        (rank,) = seen["job"]["ranks"]
        assert (rank["state"], rank["pid"]) == ("attached", pid)
        assert seen["steps"]["count"] > 0
        unharmed(target)


def test_a_worker_means_its_rank(tmp_path: Path, export: Callable[..., Any]) -> None:
    with started(tmp_path, "--worker") as target:
        (worker,) = wait_for(lambda: proc.children(target.pid), "the worker")
        assert [rank["pid"] for rank in export(worker, "--for", "1s")["job"]["ranks"]] == [target.pid]
        unharmed(target)
